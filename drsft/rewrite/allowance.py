"""How many tokens may still be sampled, for a problem and for the shard that it is in.

A run's budget is shared out among its shards by their size before anything starts, so neither the number of
actors nor the order of shards changes what a shard may spend.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Allowance"]


class Allowance:
    """`num_tokens` None is no limit of its own; what is spent is also spent from `parent`.

    All problems of a shard are under way at once, so a wave holds what it may come to before it begins: it
    waits for what others hold and may not need. Only a wave that is alone begins with less left than it may
    take, so a limit is passed by less than one wave.
    """

    def __init__(self, num_tokens: int | None, parent: "Allowance | None" = None) -> None:
        self._num_left = num_tokens
        self._num_held = 0
        self._released = asyncio.Event()
        self._parent = parent
        self.num_spent = 0

    @property
    def is_spent(self) -> bool:
        is_own_spent = self._num_left is not None and self._num_left <= 0
        return is_own_spent or (self._parent is not None and self._parent.is_spent)

    @asynccontextmanager
    async def hold(self, num_tokens: int) -> AsyncIterator[bool]:
        """Within, so many tokens may be sampled; False where the allowance is spent by then."""
        await self._room(num_tokens)
        self._num_held += num_tokens
        try:
            if self._parent is None:
                yield not self.is_spent
            else:
                async with self._parent.hold(num_tokens) as may_sample:
                    yield may_sample and not self.is_spent
        finally:
            self._num_held -= num_tokens
            self._released.set()
            self._released = asyncio.Event()

    async def _room(self, num_tokens: int) -> None:
        while (
            self._num_left is not None
            and self._num_left > 0
            and self._num_held
            and self._num_held + num_tokens > self._num_left
        ):
            await self._released.wait()

    def spend(self, num_tokens: int) -> None:
        self.num_spent += num_tokens
        if self._num_left is not None:
            self._num_left -= num_tokens
        if self._parent is not None:
            self._parent.spend(num_tokens)
