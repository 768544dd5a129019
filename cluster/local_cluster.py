"""Starts several Ray nodes on this machine, to try groups, labels, submitted jobs and lost nodes.

    python cluster/local_cluster.py --groups rollout=2 training=2 -- \\
        ray job submit --working-dir . -- \\
        python jobs/rewrite_and_train.py --config jobs/configs/quickstart.yaml \\
        storage=$PWD/runs resources.rewrite_group=rollout resources.train_group=training

Every node is a raylet with the label drsft.io/group=NAME and the given number of CPUs, as the groups of
workers in k8s/. The command gets RAY_ADDRESS and RAY_API_SERVER_ADDRESS; the cluster ends with it. Only
processes that were started here are ended, so other clusters of the machine are not affected.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import psutil

__all__ = ["LocalCluster", "local_cluster"]

STARTED = "Ray runtime started"
OBJECT_STORE_BYTES = 100 << 20
OPEN = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}  # everything listens on loopback only
# A dead node refuses connections at once: three failures in a row are enough, instead of five every 3 s.
WATCHFUL = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


class LocalCluster:
    """The running cluster of `local_cluster`."""

    def __init__(self, groups: Mapping[str, int], environment: Mapping[str, str], stack: ExitStack) -> None:
        gcs, dashboard, client = (_free_port() for _ in range(3))
        self.address = f"127.0.0.1:{gcs}"  # address of the cluster's memory (GCS): RAY_ADDRESS
        self.dashboard = f"http://127.0.0.1:{dashboard}"  # for `ray job submit`: RAY_API_SERVER_ADDRESS
        # Short, since Ray's sockets are below it, and Unix limits their paths to 107 bytes.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rl-", ignore_cleanup_errors=True))
        self.folder = Path(folder)  # where all nodes write their logs
        self.nodes: dict[str, subprocess.Popen[str]] = {}  # by group, `head` among them
        self._groups, self._environment, self._stack = groups, environment, stack
        head = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=0"]
        head += [f"--ray-client-server-port={client}", f"--temp-dir={folder}", "--include-dashboard=true"]
        self._start("head", head)
        for group in groups:
            self._join(group)

    @property
    def environment(self) -> dict[str, str]:
        return OPEN | {"RAY_ADDRESS": self.address, "RAY_API_SERVER_ADDRESS": self.dashboard}

    def kill(self, group: str) -> None:
        """Kills a node like a machine that loses its power: SIGKILL for all its processes at once."""
        _kill(self.nodes[group])

    def replace(self, group: str) -> None:
        """Kills the group's node and starts another one."""
        self.kill(group)
        self._join(group)

    def _join(self, group: str) -> None:
        options = [f"--address={self.address}", f"--num-cpus={self._groups[group]}"]
        self._start(group, [*options, f"--labels=drsft.io/group={group}"])

    def _start(self, group: str, options: list[str]) -> None:
        self.nodes[group] = self._stack.enter_context(_node(options, self._environment))


@contextmanager
def local_cluster(
    groups: Mapping[str, int], *, environment: Mapping[str, str] | None = None
) -> Iterator[LocalCluster]:
    """Starts a head without CPUs, and a node for each group; `environment` is set for all of them.

    Raises RuntimeError if one does not start.
    """
    with ExitStack() as stack:
        yield LocalCluster(groups, environment or {}, stack)


@contextmanager
def _node(options: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1"]
    command += ["--num-gpus=0", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"]
    command += [f"--dashboard-agent-listen-port={_free_port()}", *options]
    own = os.environ | OPEN | WATCHFUL | environment
    own.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait_until_started(process)  # one after the other: started at once, nodes of one address time out
        yield process
    finally:
        _kill(process)
        process.wait()


def _wait_until_started(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if STARTED in line:
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return
    raise RuntimeError(f"a node of the local cluster did not start:\n{''.join(said[-20:])}")


def _drain(output: IO[str]) -> None:
    for _ in output:
        pass


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        root = psutil.Process(process.pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for one in tree:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree[:-1], timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _group(text: str) -> tuple[str, int]:
    name, _, num_cpus = text.partition("=")
    if not name or not num_cpus.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=CPUS, such as rollout=2")
    return name, int(num_cpus)


def _main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", type=_group, default=[("rollout", 2), ("training", 2)])
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --: what runs on the cluster")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("give a command after --")
    with local_cluster(dict(arguments.groups)) as cluster:
        return subprocess.run(command, env=os.environ | cluster.environment).returncode


if __name__ == "__main__":
    sys.exit(_main())
