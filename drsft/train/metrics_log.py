"""Stores a job's metrics, one JSON object per line, in step order, and passes them to the trackers."""

import json
from collections.abc import Sequence
from typing import Any

from drsft.run.layout import TRAINING
from drsft.storage import Store
from drsft.train.tracking import Tracker
from drsft.train.world import World

__all__ = ["MetricsLog"]


class MetricsLog:
    """Collects every step's metrics; the first process writes them to the store."""

    def __init__(
        self, store: Store, *, first_step: int, world: World, trackers: Sequence[Tracker] = ()
    ) -> None:
        """Continues after step `first_step`.

        Logged lines of later steps, from before a failure, are dropped.
        """
        self._store, self._world, self._trackers = store, world, trackers
        self.first_step = first_step
        self.rows: list[dict[str, Any]] = []
        if first_step and world.is_first:
            lines = store.read(TRAINING.metrics).decode().splitlines()
            self.rows = [row for row in map(json.loads, lines) if row["step"] <= first_step]

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        for tracker in self._trackers:
            tracker.log(row["step"], {name: value for name, value in row.items() if name != "step"})

    def write(self) -> None:
        if self._world.is_first:
            self._store.put(TRAINING.metrics, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        self.write()
        for tracker in self._trackers:
            tracker.close()
