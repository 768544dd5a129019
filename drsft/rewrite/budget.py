"""Limits how many tokens may still be sampled, for a problem and for its shard.

A run's budget is divided among its shards by their size before anything starts, so a shard's budget depends
neither on the number of actors nor on the order of the shards.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["ProblemBudget", "ProblemSlot", "TokenBudget"]


class ProblemSlot:
    """A problem's place among the problems that an actor samples at the same time, whose number is limited.

    The place is released while the problem waits for tokens of the budget, so that another problem can start.
    """

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> "ProblemSlot":
        await self.acquire()
        return self

    async def __aexit__(self, *ended: object) -> None:
        self.release()

    async def acquire(self) -> None:
        await self._slots.acquire()
        self._is_held = True

    def release(self) -> None:
        """Gives the place up, so that another problem can start; does nothing if the problem has none now."""
        if self._is_held:
            self._is_held = False
            self._slots.release()


class TokenBudget:
    """The token budget of a shard; `num_tokens` None means no limit.

    A wave is the samples that one problem requests together. All problems of a shard are in flight together,
    so a wave first reserves the most tokens that it can use. If they are not free, the wave waits in order of
    arrival until other waves have released what they did not need. Only a wave that runs alone may start
    with fewer tokens than it can use, so the limit is exceeded by less than one wave.
    """

    def __init__(self, num_tokens: int | None) -> None:
        self._num_left = num_tokens
        self._num_reserved = 0
        self._turn = (
            asyncio.Lock()
        )  # held by the wave that has waited longest; a release wakes only that wave
        self._released = asyncio.Event()
        self.num_spent = 0

    @property
    def is_spent(self) -> bool:
        return self._num_left is not None and self._num_left <= 0

    def can_reserve(self, num_tokens: int) -> bool:
        """Returns whether `reserve` would return without waiting, as it does once the budget is spent."""
        return not self._turn.locked() and self._fits(num_tokens)

    async def reserve(self, num_tokens: int) -> None:
        async with self._turn:
            while not self._fits(num_tokens):
                self._released.clear()
                await self._released.wait()
            self._num_reserved += num_tokens

    def release(self, num_tokens: int) -> None:
        self._num_reserved -= num_tokens
        self._released.set()

    def spend(self, num_tokens: int) -> None:
        self.num_spent += num_tokens
        if self._num_left is not None:
            self._num_left -= num_tokens

    def _fits(self, num_tokens: int) -> bool:
        if self._num_left is None or self._num_left <= 0 or not self._num_reserved:
            return True
        return self._num_reserved + num_tokens <= self._num_left


class ProblemBudget:
    """The token budget of one problem: its own limit (None: no limit) and its shard's.

    A problem runs one wave at a time, so its own waves never wait for each other.
    """

    def __init__(
        self, num_tokens: int | None, shard: TokenBudget | None = None, slot: ProblemSlot | None = None
    ) -> None:
        self._own, self._shard = TokenBudget(num_tokens), shard or TokenBudget(None)
        self._slot = slot or ProblemSlot(asyncio.Semaphore())
        self._num_reserved = self._max_tokens = 0

    @property
    def is_spent(self) -> bool:
        return self._own.is_spent or self._shard.is_spent

    @asynccontextmanager
    async def reserve(self, num_samples: int, *, max_tokens: int) -> AsyncIterator[bool]:
        """Reserves tokens for `num_samples` samples of at most `max_tokens`, after waiting if necessary.

        Yields whether the samples may be drawn: False if the problem's or the shard's budget is spent. At the
        end of the block, what is still reserved is released.
        """
        num_tokens = num_samples * max_tokens
        waits = not self._shard.can_reserve(num_tokens)
        if waits:
            self._slot.release()
        await self._shard.reserve(num_tokens)
        self._num_reserved, self._max_tokens = num_tokens, max_tokens
        try:
            if waits:
                await self._slot.acquire()
            yield not self.is_spent
        finally:
            self._release(self._num_reserved)

    def spend(self, num_tokens: int) -> None:
        """Records that a sample has ended after so many tokens, and releases what was reserved for it."""
        self._own.spend(num_tokens)
        self._shard.spend(num_tokens)
        self._release(min(self._max_tokens, self._num_reserved))

    def _release(self, num_tokens: int) -> None:
        self._num_reserved -= num_tokens
        self._shard.release(num_tokens)
