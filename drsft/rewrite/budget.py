"""How many tokens may still be sampled, for a problem and for the shard that it is in.

A run's budget is shared out among its shards by their size before anything starts, so neither the number of
actors nor the order of shards changes what a shard may spend.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Allowance", "Place", "ProblemAllowance"]


class Place:
    """One of an actor's places for problems under way; it is another's while its problem waits for tokens."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._is_taken = False

    async def __aenter__(self) -> "Place":
        await self.take()
        return self

    async def __aexit__(self, *ended: object) -> None:
        self.give_up()

    async def take(self) -> None:
        await self._places.acquire()
        self._is_taken = True

    def give_up(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._places.release()


class Allowance:
    """What a shard may spend; `num_tokens` None is no limit.

    All problems of a shard are under way at once, so a wave holds what it may come to before it begins: it
    waits, in the order of asking, for what others hold and may not need. Only a wave that is alone begins
    with less left than it may take, so a limit is passed by less than one wave.
    """

    def __init__(self, num_tokens: int | None) -> None:
        self._num_left = num_tokens
        self._num_held = 0
        self._turn = asyncio.Lock()  # whoever has waited longest has it, and alone hears what is released
        self._released = asyncio.Event()
        self.num_spent = 0

    @property
    def is_spent(self) -> bool:
        return self._num_left is not None and self._num_left <= 0

    def has_room(self, num_tokens: int) -> bool:
        """Whether `hold` would not wait; it keeps nobody waiting for a limit that is spent."""
        return not self._turn.locked() and self._fits(num_tokens)

    async def hold(self, num_tokens: int) -> None:
        async with self._turn:
            while not self._fits(num_tokens):
                self._released.clear()
                await self._released.wait()
            self._num_held += num_tokens

    def release(self, num_tokens: int) -> None:
        self._num_held -= num_tokens
        self._released.set()

    def spend(self, num_tokens: int) -> None:
        self.num_spent += num_tokens
        if self._num_left is not None:
            self._num_left -= num_tokens

    def _fits(self, num_tokens: int) -> bool:
        if self._num_left is None or self._num_left <= 0 or not self._num_held:
            return True
        return self._num_held + num_tokens <= self._num_left


class ProblemAllowance:
    """What one problem may spend, of its own limit (None: it has none) and of its shard's.

    One wave at a time: its own waves never wait for each other.
    """

    def __init__(
        self, num_tokens: int | None, shard: Allowance | None = None, place: Place | None = None
    ) -> None:
        self._own, self._shard = Allowance(num_tokens), shard or Allowance(None)
        self._place = place or Place(asyncio.Semaphore())
        self._num_held = self._max_tokens = 0

    @property
    def is_spent(self) -> bool:
        return self._own.is_spent or self._shard.is_spent

    @asynccontextmanager
    async def hold(self, num_samples: int, *, max_tokens: int) -> AsyncIterator[bool]:
        """Within, so many samples may be drawn, each of which is spent when it ends; False: all is spent."""
        num_tokens = num_samples * max_tokens
        waits = not self._shard.has_room(num_tokens)
        if waits:
            self._place.give_up()
        await self._shard.hold(num_tokens)
        self._num_held, self._max_tokens = num_tokens, max_tokens
        try:
            if waits:
                await self._place.take()
            yield not self.is_spent
        finally:
            self._release(self._num_held)

    def spend(self, num_tokens: int) -> None:
        """A sample has ended after so many tokens, which take the place of what was held for it."""
        self._own.spend(num_tokens)
        self._shard.spend(num_tokens)
        self._release(min(self._max_tokens, self._num_held))

    def _release(self, num_tokens: int) -> None:
        self._num_held -= num_tokens
        self._shard.release(num_tokens)
