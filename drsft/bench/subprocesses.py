"""Each side of a bench runs in a process of its own: nothing is warm for the one that comes second."""

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from drsft.errors import StageError

__all__ = ["last_json_line", "run_side"]


def run_side(command: Sequence[str], *, num_threads: int) -> str:
    """Its standard output. Raises StageError when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StageError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def last_json_line(command: Sequence[str], *, num_threads: int) -> dict[str, Any]:
    """Sides print their result last, whatever their libraries printed before."""
    result: dict[str, Any] = json.loads(run_side(command, num_threads=num_threads).strip().splitlines()[-1])
    return result
