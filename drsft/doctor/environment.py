"""Whether this machine can run drsft: a line for each thing that a run needs, and the cure where it lacks."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

__all__ = ["EnvironmentCheck", "check_environment"]

LOCK = Path(__file__).parents[2] / "requirements-cpu.lock"
MIN_FREE_DISK_GIB = 10.0
MIN_SHARED_MEMORY_GIB = 2.0  # Ray's object store lies there, and falls back to the disk below it
MIN_MEMORY_GIB = 6.0  # the quickstart peaks below 5
PORTS = {8000: "serving", 8265: "Ray's dashboard", 6379: "a Ray head"}
IMPORT_TIMEOUT_S = 120
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentCheck:
    name: str
    state: Literal["ok", "warning", "wrong"]
    found: str
    cure: str = ""


def check_environment() -> Iterator[EnvironmentCheck]:
    """Checks one after another; imports of torch, vLLM and Ray run in processes of their own, since a broken
    build may end its process."""
    yield _python()
    yield from _versions()
    yield _imports("torch", "print(torch.__version__, torch.get_num_threads(), 'threads')", "run make venv")
    yield _imports("vllm", "print(vllm.__version__)", "run make venv, or pip install 'drsft[gpu]' with a GPU")
    yield _imports("ray", _START_RAY, "see the message; free memory, or set RAY_ADDRESS to a running cluster")
    yield _accelerator()
    yield _memory()
    yield _space("shared memory", Path("/dev/shm"), MIN_SHARED_MEMORY_GIB, "docker run --shm-size=8g")
    yield _space("disk here", Path.cwd(), MIN_FREE_DISK_GIB, "free space, or set storage= to another place")
    yield _space("disk for scratch", Path(tempfile.gettempdir()), 1.0, "set TMPDIR to a roomier disk")
    yield from (_port(port, use) for port, use in PORTS.items())


def _python() -> EnvironmentCheck:
    version = platform.python_version()
    is_supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    return EnvironmentCheck(
        name="Python",
        state="ok" if is_supported else "wrong",
        found=version,
        cure="" if is_supported else "use 3.11",
    )


def _versions() -> Iterator[EnvironmentCheck]:
    """What drsft asks for, and, in a checkout with the CPU's torch, every pin of the lock."""
    unmet = [text for text in map(_unmet, metadata.requires("drsft") or ()) if text]
    yield EnvironmentCheck(
        name="requirements",
        state="wrong" if unmet else "ok",
        found="; ".join(unmet) or "all met",
        cure="run make venv" if unmet else "",
    )
    if not LOCK.is_file() or "+cpu" not in (_version("torch") or ""):
        return
    pins = dict(line.split("==") for line in LOCK.read_text().split() if "==" in line)
    others = [f"{name} {_version(name)}, not {pin}" for name, pin in pins.items() if _version(name) != pin]
    yield EnvironmentCheck(
        name="lock",
        state="warning" if others else "ok",
        found="; ".join([*others[:3], *([f"{len(others) - 3} more"] if len(others) > 3 else [])])
        or f"all {len(pins)} pins",
        cure="run make venv" if others else "",
    )


def _unmet(line: str) -> str | None:
    requirement = Requirement(line)
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return None
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} is {version}, wanted {requirement.specifier}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# A local cluster as a run starts it, or the one that RAY_ADDRESS names.
_START_RAY = """
import logging, os
address = os.environ.get("RAY_ADDRESS", "local")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
options = {"include_dashboard": False} if address == "local" else {}
ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
print(ray.__version__, "at", address, "with", int(ray.cluster_resources().get("CPU", 0)), "CPU")
ray.shutdown()
"""


def _imports(package: str, code: str, cure: str) -> EnvironmentCheck:
    command = [sys.executable, "-c", f"import {package}\n{code}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        found = f"no answer within {IMPORT_TIMEOUT_S} s"
        return EnvironmentCheck(name=package, state="wrong", found=found, cure=cure)
    if done.returncode == 0:
        return EnvironmentCheck(
            name=package, state="ok", found=(done.stdout.strip().splitlines() or [""])[-1]
        )
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return EnvironmentCheck(name=package, state="wrong", found=last[:200], cure=cure)


def _accelerator() -> EnvironmentCheck:
    """A CPU is enough for the embedded model; a driver without a CUDA build of torch is worth a word."""
    cpus = len(os.sched_getaffinity(0))
    if not shutil.which("nvidia-smi"):
        return EnvironmentCheck(name="hardware", state="ok", found=f"{cpus} CPU, no GPU")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    gpus = ", ".join(done.stdout.strip().splitlines()) or "nvidia-smi finds none"
    is_unused = done.returncode == 0 and "+cpu" in (_version("torch") or "")
    return EnvironmentCheck(
        name="hardware",
        state="warning" if is_unused or done.returncode else "ok",
        found=f"{cpus} CPU; {gpus}",
        cure="torch is a CPU build: install drsft[gpu] instead of the lock" if is_unused else "",
    )


def _memory() -> EnvironmentCheck:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free_gib = int(fields["MemAvailable"].split()[0]) / (1 << 20)
    is_enough = free_gib >= MIN_MEMORY_GIB
    return EnvironmentCheck(
        name="memory",
        state="ok" if is_enough else "warning",
        found=f"{free_gib:.1f} GiB free",
        cure="" if is_enough else f"the quickstart wants {MIN_MEMORY_GIB:g} GiB; end other programs",
    )


def _space(name: str, folder: Path, min_gib: float, cure: str) -> EnvironmentCheck:
    free_gib = shutil.disk_usage(folder).free / GIB
    is_enough = free_gib >= min_gib
    return EnvironmentCheck(
        name=name,
        state="ok" if is_enough else "warning",
        found=f"{free_gib:.1f} GiB free in {folder}",
        cure="" if is_enough else f"wants {min_gib:g} GiB: {cure}",
    )


def _port(port: int, use: str) -> EnvironmentCheck:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return EnvironmentCheck(
                name=f"port {port}",
                state="warning",
                found=f"in use ({use})",
                cure="choose another port, or end what listens there",
            )
    return EnvironmentCheck(name=f"port {port}", state="ok", found=f"free ({use})")
