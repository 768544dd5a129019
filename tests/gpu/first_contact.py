"""What a machine makes of the paths that only a GPU takes: one table of parities, speeds and memory.

    python -m tests.gpu.first_contact [--model MODEL]     on any CUDA machine, at most 25 minutes
    python -m tests.gpu.first_contact --toy               the embedded model on any machine: the script works

Each check is a process of its own, so that its memory is its own and a crash is a line of the table. On a CPU
the attention is torch's for each document, not the flash kernel, and no figure says anything about a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.gpu.engine_checks import export, hinted, rollouts
from tests.gpu.kernel_checks import attention, loss
from tests.gpu.scene import Row, Scene
from tests.gpu.training_checks import training
from tests.support.memory import WITHOUT_KERNEL_CACHES

LIMIT_S = 1500  # of all checks together
CHECKS: dict[str, Callable[[Scene], list[Row]]] = {
    one.__name__: one for one in (attention, loss, training, export, rollouts, hinted)
}


def _run(name: str, scene: Scene, *, left_s: float) -> list[Row]:
    options = ["--toy"] if scene.is_toy else []
    command = [sys.executable, "-m", "tests.gpu.first_contact", "--model", scene.model, *options]
    command += ["--check", name, "--folder", str(scene.folder)]
    on_cpu = {"OMP_NUM_THREADS": "1"} | (WITHOUT_KERNEL_CACHES if name == "training" else {})
    environment = {**({} if torch.cuda.is_available() else on_cpu), **os.environ}
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=left_s, env=environment)
        lines = [line for line in told.stdout.splitlines() if line.startswith("[{")]
        if told.returncode == 0 and lines:
            return [Row(**row) for row in json.loads(lines[-1])]
        reason = (told.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
    except subprocess.TimeoutExpired:
        reason = f"all checks together may take {LIMIT_S} s"
    return [Row(check=name, what="failed", found=reason, is_kept=False)]


def first_contact(scene: Scene, console: Console) -> list[Row]:
    found, end_s = list[Row](), time.monotonic() + LIMIT_S
    for name in CHECKS:
        started_s = time.monotonic()
        found += _run(name, scene, left_s=max(end_s - started_s, 1))
        found.append(
            Row(check=name, what="seconds, with all starts", found=f"{time.monotonic() - started_s:.0f}")
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU: no figure is of a GPU"
    table = Table("check", "what", "found", "at most", "", title=f"{scene.model} on {device}")
    for row in found:
        mark = "" if row.is_kept is None else "ok" if row.is_kept else "NOT KEPT"
        table.add_row(row.check, row.what, row.found, row.limit, mark)
    console.print(table)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--check", choices=CHECKS, help="only this one, as JSON")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drsft-first-contact-") as name:
        scene = Scene(model=given.model, is_toy=given.toy, folder=given.folder or Path(name))
        if given.check:
            print(json.dumps([asdict(row) for row in CHECKS[given.check](scene)]), flush=True)
            return
        found = first_contact(scene, Console(width=140))
    sys.exit(any(row.is_kept is False for row in found))


if __name__ == "__main__":
    main()
