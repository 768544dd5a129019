"""Admits requests: each key has a limited rate, and the tokens in flight are limited for all keys together.

A single request never waits: it is admitted or rejected at once. The problems of a batch wait in a queue. All
state belongs to one ingress replica and its event loop: with R replicas a key has R times its rate.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from drsft.config import Rewrite
from serve.limits.capacity import TokenCapacity
from serve.limits.keys import Key
from serve.limits.rates import Rates, Rejected
from serve.service_metrics import NoMetrics, ServiceMetrics

__all__ = ["NO_METRICS", "Admission", "QueueSlot", "Rejected", "Ticket", "estimated_tokens"]


NO_METRICS = NoMetrics()


class Admission:
    """Admits requests by their estimated tokens, and returns unused tokens to the key at a request's end.

    `longest_s` is the longest time that a request takes, `most_waiting` the number of problems of one key
    that may wait.
    """

    def __init__(
        self,
        tokens_in_flight: int,
        *,
        most_waiting: int = 64,
        longest_s: float = math.inf,
        clock_s: Callable[[], float] = time.monotonic,
        metrics: ServiceMetrics = NO_METRICS,
    ) -> None:
        self._most_waiting, self._longest_s = most_waiting, longest_s
        self._clock_s, self._metrics = clock_s, metrics
        self._capacity = TokenCapacity(tokens_in_flight, metrics=metrics)
        self.rates = Rates(clock_s=clock_s, metrics=metrics)
        self._slots: dict[str, set[QueueSlot]] = {}
        self._mean_s: float | None = None  # moving average of the time that a request takes

    @property
    def in_flight(self) -> int:
        return self._capacity.in_flight

    @contextmanager
    def counted(self, key: Key) -> Iterator[None]:
        """Counts one request against the key's rate, unless the block raises Rejected.

        Raises Rejected itself if the key is over its rate.
        """
        taken = self.rates.take_request(key)
        try:
            yield
        except Rejected:
            taken.give_back(1)
            raise

    @contextmanager
    def admit(self, key: Key, num_tokens: int) -> Iterator["Ticket"]:
        """Reserves the tokens for the block and charges the key for them.

        Raises Rejected at once if the tokens exceed what is free, or the key's rate. At the end, tokens
        beyond the ticket's `used` are given back to the key.
        """
        if not self._capacity.try_acquire(num_tokens):
            raise self._full(num_tokens)
        with self._holding(key, num_tokens) as ticket:
            yield ticket

    @asynccontextmanager
    async def admit_in_turn(
        self, key: Key, num_tokens: int, *, slot: "QueueSlot", until_s: float | None = None
    ) -> AsyncIterator["Ticket"]:
        """Admits as `admit` does, but waits for free capacity until `until_s` of the event loop's clock.

        Raises Rejected if there is none until then. `slot` is freed when the waiting succeeds.
        """
        try:
            async with asyncio.timeout_at(until_s):
                await self._capacity.acquire(num_tokens)
        except TimeoutError:
            raise self._full(num_tokens) from None
        slot.free()
        with self._holding(key, num_tokens) as ticket:
            yield ticket

    @contextmanager
    def queue_slots(self, key: Key, num_problems: int) -> Iterator[list["QueueSlot"]]:
        """Yields a QueueSlot for each problem of a batch, and frees all of them at the end of the block.

        Raises Rejected if more problems of the key would then wait than one key may have waiting.
        """
        taken = self._slots.setdefault(key.name, set())
        if len(taken) + num_problems > self._most_waiting:
            self._metrics.rejected("waiting")
            reason = (
                f"key {key.name!r} has {len(taken)} problems waiting and sent {num_problems} more, but at "
                f"most {self._most_waiting} may wait"
            )
            raise Rejected(reason, self._wait_s(self._capacity.num_tokens_waiting))
        slots = [QueueSlot(taken) for _ in range(num_problems)]
        taken.update(slots)
        try:
            yield slots
        finally:
            taken.difference_update(slots)

    @contextmanager
    def _holding(self, key: Key, num_tokens: int) -> Iterator["Ticket"]:
        """Charges the key for tokens already taken from the capacity, and releases them at the end."""
        try:
            taken = self.rates.take_tokens(key, num_tokens)
            ticket = Ticket(started_s=self._clock_s(), used=num_tokens)
            try:
                yield ticket
            finally:
                taken.give_back(num_tokens - ticket.used)
                self._learn(ticket)
        finally:
            self._capacity.release(num_tokens)

    def _full(self, num_tokens: int) -> Rejected:
        self._metrics.rejected("full")
        return Rejected("the service is full", self._wait_s(num_tokens), is_full=True)

    def _wait_s(self, num_tokens: int) -> float:
        """Returns the seconds until the tokens fit, by Little's law: tokens are released at in_flight / mean
        time.
        """
        if self._mean_s is None or not self.in_flight:
            return 1
        excess = self.in_flight + num_tokens - self._capacity.limit
        return min(self._mean_s * excess / self.in_flight, self._longest_s)

    def _learn(self, ticket: "Ticket") -> None:
        if ticket.used:
            elapsed_s = self._clock_s() - ticket.started_s
            self._mean_s = elapsed_s if self._mean_s is None else 0.9 * self._mean_s + 0.1 * elapsed_s


@dataclass(slots=True)
class Ticket:
    """An admitted request. `used` is its prompt and sampled tokens, or the estimate until they are known.

    A client that disconnects, or whose deadline passes, still pays for the tokens that were sampled.
    """

    started_s: float
    used: int


@dataclass(frozen=True, slots=True, eq=False)
class QueueSlot:
    """Permission for one problem of a batch to wait; it counts against its key's limit until it is freed."""

    taken: "set[QueueSlot]"

    def free(self) -> None:
        """Frees the slot; may be called twice."""
        self.taken.discard(self)


def estimated_tokens(num_prompt_tokens: int, rewrite: Rewrite) -> int:
    """Returns the most tokens that a request has in the engine at one time: the prompt and its largest wave.

    A wave is the samples that are requested together. The cascade can take several waves, one after the
    other; counting all of them would leave the engine half empty.
    """
    waves = (
        min(phase.wave_size, phase.num_samples) * phase.max_tokens
        for phase in (rewrite.self_align, rewrite.guided)
    )
    return num_prompt_tokens + max(waves)
