"""Adds a run's shards to the queue for its workers: planned ones at once, others as they are planned."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ray

from drsft.intake.planning import PlannedShard, Planning

__all__ = ["SHARDS_BEFORE_ENGINES", "Announcer"]

SHARDS_BEFORE_ENGINES = 64  # read before engines start, since reading would slow their start
_LOOKED_AGAIN_S = 0.5


class Announcer:
    """Registers a stage and its planned shards on the progress board; `planning_the_rest` adds the shards
    that are planned later.
    """

    def __init__(
        self,
        board: Any,
        stage: str,
        planning: Planning,
        *,
        done: Collection[str],
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """`sizes` gives the number of problems to do in each shard, if that is not all of them."""
        self._board, self._stage, self._planning = board, stage, planning
        self._done, self._sizes = done, sizes
        self._is_ended = threading.Event()

    @property
    def num_missing(self) -> int | None:
        """The number of planned shards that are not done; None until all shards are planned."""
        if self._planning.plan is None:
            return None
        return len(self._planning.plan.shards.keys() - self._done)

    def begin(self) -> None:
        self._board.begin.remote(self._stage, is_growing=True, can_divide=True)
        self._add(self._planning.so_far)
        if self._planning.plan is not None:
            self._board.close_shards.remote(self._stage)

    @contextmanager
    def planning_the_rest(self) -> Iterator[None]:
        """Within the block, a thread plans the remaining shards and adds them to the queue.

        It starts once an engine has asked for its first shard. If reading the data fails, the waiting shards
        are dropped, so that the workers finish early; the error is raised at the end of the block.
        """
        if self._planning.plan is not None:
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="planning") as thread:
            rest = thread.submit(self._announce_rest)
            try:
                yield
            finally:
                self._is_ended.set()
            rest.result()

    def _announce_rest(self) -> None:
        is_read = False
        try:
            while not (self._is_ended.is_set() or ray.get(self._board.is_asked.remote(self._stage))):
                self._is_ended.wait(_LOOKED_AGAIN_S)
            for shard in self._planning.further():
                self._add([shard])
                if self._is_ended.is_set():
                    return
            is_read = True
        finally:
            self._board.close_shards.remote(self._stage, drop=not is_read)

    def _add(self, shards: Sequence[PlannedShard]) -> None:
        sizes = self._sizes or {shard.name: shard.num_problems for shard in shards}
        self._board.add_shards.remote(
            self._stage,
            [shard.name for shard in shards if shard.name not in self._done],
            num_problems=sum(sizes[shard.name] for shard in shards),
            num_done=sum(sizes[shard.name] for shard in shards if shard.name in self._done),
        )
