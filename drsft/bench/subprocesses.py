"""Runs each side of a bench in a process of its own, so that no side profits from the other's warm caches."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drsft.errors import StageError

__all__ = ["last_json_line", "run_side"]


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
        reason = done.stderr.strip()[-500:] or "killed, perhaps for want of memory"
        raise StageError(f"{' '.join(command)} ended with {done.returncode}: {reason}")
    return done.stdout


def last_json_line(output: str) -> dict[str, Any]:
    """Returns the result, which sides print last, after whatever their libraries printed."""
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result
