"""Runs each side of a bench in a process of its own, so that neither benefits from the other's warm
caches.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drsft.errors import InputError, StageError

__all__ = ["environment_of", "last_json_line", "other_checkout", "run_side"]


def other_checkout(folder: Path) -> Path:
    """Returns the absolute path of another checkout of drsft. Raises InputError if `folder` is not one."""
    if not (folder / "drsft" / "__init__.py").exists():
        raise InputError(
            f"--peer-checkout {folder} is not a checkout of drsft; make one: git worktree add {folder} COMMIT"
        )
    return folder.absolute()


def environment_of(checkout: Path) -> dict[str, str]:
    """Returns an environment in which Python imports drsft from the checkout."""
    path = os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def run_side(
    command: Sequence[str],
    *,
    num_threads: int | None = None,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> str:
    """Runs a command and returns its standard output. Raises StageError if its exit status is not 0.

    If `num_threads` is None, `environment` decides on the number of OpenMP threads.
    """
    done = subprocess.run(
        command,
        env={**environment, **({} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads)})},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.strip()[-500:] or "killed, perhaps because memory ran out"
        raise StageError(f"{' '.join(command)} ended with status {done.returncode}: {reason}")
    return done.stdout


def last_json_line(output: str) -> dict[str, Any]:
    """Parses the last line of a process's output, its result, as JSON; lines of libraries come before it."""
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result
