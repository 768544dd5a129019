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
    """Returns the folder of another build. Raises InputError if the folder is not a checkout."""
    if not (folder / "drsft" / "__init__.py").exists():
        raise InputError(
            f"--peer-checkout {folder}: no checkout of drsft; make one: git worktree add {folder} COMMIT"
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
    """Runs a command and returns its standard output. Raises StageError when it fails.

    Without `num_threads` the environment sets the number of threads.
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
        raise StageError(f"{' '.join(command)} ended with {done.returncode}: {reason}")
    return done.stdout


def last_json_line(output: str) -> dict[str, Any]:
    """Returns the result, which sides print last, after whatever their libraries printed."""
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result
