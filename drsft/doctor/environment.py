"""Checks whether this machine can run drsft: one line for each requirement, with a fix where it is
not met.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from drsft.doctor.checks import Check, judged

__all__ = ["GIB", "check_environment"]

LOCK = Path(__file__).parents[2] / "requirements-cpu.lock"
MIN_FREE_DISK_GIB = 10.0
MIN_SHARED_MEMORY_GIB = 2.0  # for Ray's object store, which uses the disk if there is less
MIN_MEMORY_GIB = 6.0  # the quickstart peaks below 5
PORTS = {8000: "serving", 8265: "Ray's dashboard", 6379: "a Ray head"}
IMPORT_TIMEOUT_S = 120
GIB = 1 << 30


def check_environment() -> Iterator[Check]:
    """Checks this machine step by step, and yields the result of each check.

    torch, vLLM and Ray are imported in child processes, since a broken build may crash the process.
    """
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


def _python() -> Check:
    version = platform.python_version()
    is_supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    return judged("Python", is_supported, found=version, cure="use 3.11")


def _versions() -> Iterator[Check]:
    """Yields the check of drsft's requirements, and in a checkout with a CPU build of torch that of the lock
    file.
    """
    unmet = [text for text in map(_unmet, metadata.requires("drsft") or ()) if text]
    yield judged("requirements", not unmet, found="; ".join(unmet) or "all met", cure="run make venv")
    if not LOCK.is_file() or "+cpu" not in (_version("torch") or ""):
        return
    pins = dict(line.split("==") for line in LOCK.read_text().split() if "==" in line)
    others = [f"{name} {_version(name)}, not {pin}" for name, pin in pins.items() if _version(name) != pin]
    shown = [*others[:3], *([f"{len(others) - 3} more"] if len(others) > 3 else [])]
    found = "; ".join(shown) or f"all {len(pins)} pins"
    yield judged("lock", not others, found=found, cure="run make venv", otherwise="warning")


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


# A local cluster like that of a run, or the cluster that RAY_ADDRESS names.
_START_RAY = """
import logging, os
address = os.environ.get("RAY_ADDRESS", "local")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
options = {"include_dashboard": False} if address == "local" else {}
ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
print(ray.__version__, "at", address, "with", int(ray.cluster_resources().get("CPU", 0)), "CPU")
ray.shutdown()
"""


def _imports(package: str, code: str, cure: str) -> Check:
    command = [sys.executable, "-c", f"import {package}\n{code}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return judged(package, False, found=f"no answer within {IMPORT_TIMEOUT_S} s", cure=cure)
    if done.returncode == 0:
        return judged(package, True, found=(done.stdout.strip().splitlines() or [""])[-1], cure=cure)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return judged(package, False, found=last[:200], cure=cure)


def _accelerator() -> Check:
    """Returns the check for a GPU, with a warning if there is one but torch is a CPU build.

    A CPU is enough for the embedded model.
    """
    cpus = len(os.sched_getaffinity(0))
    if not shutil.which("nvidia-smi"):
        return judged("hardware", True, found=f"{cpus} CPU, no GPU", cure="")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    gpus = ", ".join(done.stdout.strip().splitlines()) or "nvidia-smi finds none"
    is_unused = done.returncode == 0 and "+cpu" in (_version("torch") or "")
    cure = "torch is a CPU build: install drsft[gpu] instead of the lock" if is_unused else ""
    is_right = not is_unused and done.returncode == 0
    return judged("hardware", is_right, found=f"{cpus} CPU; {gpus}", cure=cure, otherwise="warning")


def _memory() -> Check:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free_gib = int(fields["MemAvailable"].split()[0]) / (1 << 20)
    cure = f"the quickstart wants {MIN_MEMORY_GIB:g} GiB; end other programs"
    is_enough = free_gib >= MIN_MEMORY_GIB
    return judged("memory", is_enough, found=f"{free_gib:.1f} GiB free", cure=cure, otherwise="warning")


def _space(name: str, folder: Path, min_gib: float, cure: str) -> Check:
    free_gib = shutil.disk_usage(folder).free / GIB
    found, cure = f"{free_gib:.1f} GiB free in {folder}", f"wants {min_gib:g} GiB: {cure}"
    return judged(name, free_gib >= min_gib, found=found, cure=cure, otherwise="warning")


def _port(port: int, use: str) -> Check:
    is_free, cure = True, "choose another port, or end what listens there"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            is_free = False
    found = f"{'free' if is_free else 'in use'} ({use})"
    return judged(f"port {port}", is_free, found=found, cure=cure, otherwise="warning")
