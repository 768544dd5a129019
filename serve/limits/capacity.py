"""Bounds the tokens in flight, with a first-in-first-out queue for requests that may wait."""

import asyncio
from collections import OrderedDict

from serve.service_metrics import ServiceMetrics

__all__ = ["TokenCapacity"]


class TokenCapacity:
    """Limits the tokens of all admitted requests together to `limit`; requests that must wait are queued.

    A request larger than the limit gets its tokens when no other request has any.
    """

    def __init__(self, limit: int, *, metrics: ServiceMetrics) -> None:
        self.limit = limit
        self.in_flight = 0
        self._metrics = metrics
        self._queue: OrderedDict[asyncio.Future[None], int] = OrderedDict()
        self._add(0)

    @property
    def num_tokens_waiting(self) -> int:
        return sum(self._queue.values())

    def try_acquire(self, num_tokens: int) -> bool:
        """Takes the tokens if they fit now; returns whether they did."""
        fits = not self.in_flight or self.in_flight + num_tokens <= self.limit
        if fits:
            self._add(num_tokens)
        return fits

    async def acquire(self, num_tokens: int) -> None:
        """Waits behind all requests that were queued earlier until the tokens fit, then takes them.

        A cancelled call takes none.
        """
        if not self._queue and self.try_acquire(num_tokens):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue[granted] = num_tokens
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._queue.pop(granted, None)
                self._grant()  # requests queued behind it may need fewer tokens
            else:
                self.release(num_tokens)
            raise

    def release(self, num_tokens: int) -> None:
        self._add(-num_tokens)
        self._grant()

    def _grant(self) -> None:
        while self._queue:
            granted, num_tokens = next(iter(self._queue.items()))
            if granted.cancelled():
                del self._queue[granted]
            elif self.try_acquire(num_tokens):
                del self._queue[granted]
                granted.set_result(None)
            else:
                return

    def _add(self, num_tokens: int) -> None:
        self.in_flight += num_tokens
        self._metrics.in_flight(self.in_flight, limit=self.limit)
