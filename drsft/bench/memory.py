"""Measures how much memory this process holds while a block runs."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

__all__ = ["MemoryCurve", "watched_memory"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """Resident memory in MiB at equal intervals of time."""

    samples: list[float] = field(default_factory=list)

    @property
    def tenths(self) -> list[float]:
        """The largest value in each tenth of the time; fewer values if there are fewer samples than
        tenths.
        """
        cuts = [len(self.samples) * i // 10 for i in range(11)]
        return [max(self.samples[a:b]) for a, b in pairwise(cuts) if b > a]

    def __str__(self) -> str:
        return " ".join(f"{mib:,.0f}" for mib in self.tenths)


@contextmanager
def watched_memory() -> Iterator[MemoryCurve]:
    """Yields a curve that grows while the block runs. It reads /proc, so it works on Linux only."""
    curve = MemoryCurve()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY_S):
            curve.samples.append(resident_mib())

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield curve
    finally:
        stop.set()
        thread.join()


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * _PAGE_BYTES / 2**20
