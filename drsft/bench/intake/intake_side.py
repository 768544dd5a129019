"""One side of `drsft bench intake`: reads a file's problems, writes them as shards, and prints one JSON line
with the counts, the time and the memory that this took.

It runs as a script under the checkout that is measured (PYTHONPATH), which may be an older one with other
module names, so it imports nothing of the bench.
"""

import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from drsft.config import Problems, Prompts, Target
from drsft.policy import prompts
from drsft.storage import LocalStore

SAMPLED_EVERY_S = 0.1


def main(data: str, model: str, max_model_len: str) -> None:
    plan_problems, where = _planning()
    load = getattr(prompts, "target_prompter", None)
    prompter = prompts.load_prompter(model, Prompts()) if load is None else load(Target(model=model))
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        memory = _Memory()
        started_s, processor_s = time.perf_counter(), _processor_s()
        plan = plan_problems(
            Problems(path=data),
            LocalStore(Path(folder)),
            where,
            prompter=prompter,
            max_model_len=int(max_model_len),
        )
        seconds, processor_s = time.perf_counter() - started_s, _processor_s() - processor_s
        found = {
            "seconds": seconds,
            "processor_s": processor_s,
            "memory_mib": memory.stop(),
            "num_read": plan.num_read,
            "num_problems": plan.num_problems,
            "digest": plan.digest,
        }
    print(json.dumps(found))


def _planning() -> tuple[Callable[..., Any], Any]:
    try:
        from drsft.intake.planning import plan_problems
        from drsft.run.layout import PROBLEMS
    except ImportError:  # module names of older versions
        return import_module("drsft.planning").plan_problems, "problems"
    return plan_problems, PROBLEMS


def _processor_s() -> float:
    """Returns the processor seconds of this process and of its finished children."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


class _Memory:
    """The resident memory of this process and its children, in MiB, at equal intervals."""

    def __init__(self) -> None:
        self._samples = [_resident_mib()]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> list[float]:
        self._stopping.set()
        self._thread.join()
        return self._samples

    def _watch(self) -> None:
        while not self._stopping.wait(SAMPLED_EVERY_S):
            self._samples.append(_resident_mib())


def _resident_mib() -> float:
    """Returns the resident memory of this process and its children, in MiB.

    A child whose command line is still this program's has just been forked and shares all memory: it is left
    out.
    """
    children = [one for task in Path("/proc/self/task").iterdir() for one in _read(task / "children").split()]
    children = [one for one in children if _command(one) != _command("self")]
    pages = sum(int((_read(Path(f"/proc/{one}/statm")).split() or "00")[1]) for one in ["self", *children])
    return pages * resource.getpagesize() / 2**20


def _command(process: str) -> str:
    return _read(Path(f"/proc/{process}/cmdline"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the thread or child has just ended
        return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
