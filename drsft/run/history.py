"""Stores when each stage of a run ran and how long it took: one object for each stage that a driver finished.

`drsft plan` takes its rates from them. The lease's term numbers the starts, so no two starts write one key.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from drsft.run import layout
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["StageTime", "read_history", "timed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """The time of one stage in one start; `stage` is "start" for everything before the first stage."""

    term: int
    stage: str
    began_at: float  # seconds since 1970
    wall_s: float


@contextmanager
def timed(store: Store, term: int, stage: str, *, began_at: float | None = None) -> Iterator[None]:
    """Stores how long the block took, unless it raises; `began_at` is given if the stage began before the
    block.
    """
    began_at = time.time() if began_at is None else began_at
    yield
    done = StageTime(term=term, stage=stage, began_at=began_at, wall_s=time.time() - began_at)
    store.put(layout.history(term, stage), json.dumps(asdict(done)).encode())


def read_history(store: Store) -> list[StageTime]:
    """Returns the stored times in order of the starts."""
    return [read_stored(store, key, StageTime) for key in store.keys(layout.HISTORY)]
