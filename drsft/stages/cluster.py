"""Connects to Ray: the cluster that RAY_ADDRESS names, or one on this machine for the length of the run."""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

import ray
from rich.console import Console

from drsft.config import Resources
from drsft.errors import SetupError, UserError
from drsft.process.end_requests import handlers_kept
from drsft.process.logs import JsonStream

__all__ = ["check_port_is_free", "check_resources", "connected", "is_own_machine", "quiet_stderr"]


def check_port_is_free(port: int, key: str) -> None:
    """Raises SetupError if something already listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SetupError(f"{key}={port}: the port is in use or not allowed; choose another") from error


def is_own_machine() -> bool:
    """Returns whether the run starts its own Ray cluster on this machine: RAY_ADDRESS is unset or "local"."""
    return os.environ.get("RAY_ADDRESS", "local") == "local"


def check_resources(resources: Resources, stages: Sequence[str]) -> None:
    """Raises SetupError if `stages` need more CPUs or GPUs than this machine has, or a group of nodes.

    Ray itself would wait silently. A cluster that RAY_ADDRESS names is not checked, since it may still grow.
    """
    if not is_own_machine():
        return
    for key in ("rewrite_group", "train_group"):
        if group := getattr(resources, key):
            raise SetupError(
                f"resources.{key}={group}: the cluster that a run starts on one machine has no groups of "
                "nodes; remove this setting, or set RAY_ADDRESS to a cluster that has them"
            )
    has, engines, trainers = ray.cluster_resources(), resources.engine_share, resources.train_share
    needs = {
        "resources.cpus_per_actor": ("CPU", engines.cpus, "rewrite"),
        "resources.gpus_per_actor": ("GPU", engines.gpus, "rewrite"),
        "resources.train_workers": (
            "CPU",
            trainers.num_workers * trainers.cpus,
            "train",
        ),
        "resources.gpus_per_train_worker": (
            "GPU",
            trainers.num_workers * trainers.gpus,
            "train",
        ),
    }
    for key, (kind, wanted, stage) in needs.items():
        is_used = stage in stages or (stage == "rewrite" and {"gap", "evaluate"} & set(stages))
        if is_used and wanted > has.get(kind, 0):
            raise SetupError(
                f"{key}: {wanted:g} {kind} are needed, and this machine has {has.get(kind, 0):g}; lower it"
            )


@contextmanager
def quiet_stderr(console: Console) -> Iterator[None]:
    """Within the block, only `console` writes to the terminal; all other output on stderr goes to a file.

    The file is kept, and its name printed, if the block fails with anything but a UserError or Ctrl-C. Ray's
    C++ core and its libraries bypass Python's streams and would print into the progress display. The file has
    no name until it is kept, so a killed process leaves nothing behind.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    log = tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(log.fileno(), 2)
    shown_to = console.file
    stream = os.fdopen(os.dup(terminal), "w", buffering=1)
    console.file = cast(TextIO, shown_to.onto(stream)) if isinstance(shown_to, JsonStream) else stream
    try:
        yield
    except BaseException as error:
        if not isinstance(error, UserError | KeyboardInterrupt):  # the message is enough there
            name = _kept(log.fileno())
            console.print(f"Ray's own output is in {name}", style="dim", soft_wrap=True, highlight=False)
        raise
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        log.close()
        console.file.close()
        console.file = shown_to


def _kept(log: int) -> str:
    """Copies an open file and returns the copy's name; other processes may still write to the file."""
    with tempfile.NamedTemporaryFile(prefix="drsft-ray-", suffix=".log", delete=False) as copy:
        copy.write(os.pread(log, os.fstat(log).st_size, 0))
        return copy.name


@contextmanager
def connected(*, dashboard_port: int | None = None) -> Iterator[None]:
    """Connects to Ray for the length of the block; a cluster that it started is shut down at the end.

    Within the block, output on sys.stdout goes to sys.stderr. Raises SetupError if Ray cannot be reached, or
    if the port of the dashboard is in use.
    """
    address = os.environ.get("RAY_ADDRESS", "local")
    local_options: dict[str, Any] = {}
    if address == "local":
        local_options = {"include_dashboard": dashboard_port is not None}
        if dashboard_port is not None:
            check_port_is_free(dashboard_port, "resources.dashboard_port")
            local_options |= {"dashboard_host": "127.0.0.1", "dashboard_port": dashboard_port}
        # A local cluster serves this process alone, on loopback. Left unset, the mode would write a token
        # into the home directory that a later `ray start` then demands.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # Read by the C library at a process's start. Page faults of an engine on the CPU took a tenth of its
        # time in an actor, where many threads share one address space.
        os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    try:
        with handlers_kept():
            ray.init(
                address=address,
                **local_options,
                logging_level=logging.ERROR,
                log_to_driver=False,
                configure_logging=False,
            )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise SetupError(f"cannot connect to Ray at {address!r}: {reason}; check RAY_ADDRESS") from error
    try:
        with redirect_stdout(sys.stderr):  # Ray prints its nodes' warnings to stdout, which scripts may read
            yield
    finally:
        ray.shutdown()
