"""Each side of a bench runs in a process of its own: nothing is warm for the one that comes second."""

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
    """Its standard output; without `num_threads` the environment says how many. StageError when it fails."""
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
    """Sides print their result last, whatever their libraries printed before."""
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result
