"""A queue of a stage's shards that are waiting to be started. It does not use Ray.

Each actor has several slots, one for each shard that it may have in flight. Shards can still be added while
the first ones are being worked on.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Draw", "NoShard", "ShardQueue"]


class NoShard(Enum):
    """The reason why a slot gets no shard."""

    YET = "ask again: the data is still being read"
    MORE = "end: there will be none"


Draw = str | NoShard


@dataclass(slots=True)
class ShardQueue:
    is_closed: bool = False
    is_asked: bool = False  # whether a slot has drawn, which it does once its engine is ready
    _waiting: deque[str] = field(default_factory=deque)
    _held: dict[int, str] = field(default_factory=dict)  # by slot

    def add(self, shards: Iterable[str]) -> None:
        self._waiting.extend(shards)

    def close(self, *, drop: bool = False) -> None:
        """Records that no more shards are added. `drop` drops the shards that no slot has drawn."""
        self.is_closed = True
        if drop:
            self._waiting.clear()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def has_work_for(self, slots: range) -> bool:
        """Returns whether a shard is waiting or one of these slots holds one."""
        return bool(self._waiting) or not self._held.keys().isdisjoint(slots)

    def draw(self, slot: int, *, finished: str | None) -> Draw:
        """Returns the slot's next shard, or why there is none; `finished` is the shard that it has just done.

        If a slot asks without having finished its shard, its actor was restarted, and it gets the shard
        again.
        """
        self.is_asked = True
        if finished is not None and self._held.get(slot) == finished:
            del self._held[slot]
        if slot not in self._held:
            if not self._waiting:
                return NoShard.MORE if self.is_closed else NoShard.YET
            self._held[slot] = self._waiting.popleft()
        return self._held[slot]
