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
    """How long one stage took in one start of the run.

    `term` is the lease's term, which numbers the starts. `stage` is "start" for everything before the first
    stage.
    """

    term: int
    stage: str
    began_at: float  # seconds since 1970
    wall_s: float


@contextmanager
def timed(store: Store, term: int, stage: str, *, began_at: float | None = None) -> Iterator[None]:
    """Measures how long the block takes and stores that as a StageTime, unless the block raises.

    `began_at`, in seconds since 1970, is given if the stage began before the block.
    """
    began_at = time.time() if began_at is None else began_at
    yield
    done = StageTime(term=term, stage=stage, began_at=began_at, wall_s=time.time() - began_at)
    store.put(layout.history(term, stage), json.dumps(asdict(done)).encode())


def read_history(store: Store) -> list[StageTime]:
    """Returns the stored times of all stages, in order of the run's starts; [] if there are none."""
    return [read_stored(store, key, StageTime) for key in store.keys(layout.HISTORY)]
