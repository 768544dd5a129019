"""Runs other projects' tools, which are installed in an environment of their own (make peers)."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drsft.bench.subprocesses import last_json_line, run_side

__all__ = ["HOW_TO_GET_PEERS", "has_package", "run_peer"]

HOW_TO_GET_PEERS = "make peers installs it into .venv-peers; or name a Python that has it: --peer-python PATH"


def has_package(python: Path, package: str) -> bool:
    """Returns whether that interpreter exists and finds the package; nothing is imported."""
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    return python.exists() and subprocess.run([python, "-c", code], check=False).returncode == 0


def run_peer(python: Path, script: Path, arguments: Sequence[str], *, folder: Path) -> dict[str, Any]:
    """Runs the script and returns the JSON line that it prints last.

    The script's caches go below `folder`; drsft is not on its path.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    # -P: the script's folder holds modules with the same names as other packages'.
    command = [str(python.absolute()), "-P", str(script), *arguments]
    return last_json_line(run_side(command, environment=environment, folder=folder))
