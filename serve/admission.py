"""Who gets in now: a rate for each key, and a bound on the tokens that are under way.

Nothing queues here but the problems of a batch: its sender cannot send them one after the other.

All state is of one ingress replica and its event loop: with R replicas a key has R times its rate.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from drsft.config import Rewrite
from serve.auth import Key
from serve.meter import Meter, NoMeter

__all__ = ["Admission", "Refused", "TokenBucket", "estimated_tokens"]


NO_METER = NoMeter()


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """Not now; `retry_after_s` is when it is worth another try. `is_full`: whoever asks."""

    def __init__(self, reason: str, retry_after_s: float, *, is_full: bool = False) -> None:
        super().__init__(reason)
        self.is_full = is_full
        self.retry_after_s = max(1, math.ceil(retry_after_s))


@dataclass(slots=True)
class TokenBucket:
    """Holds a minute's worth, and fills evenly."""

    per_minute: int
    level: float
    filled_s: float

    def take(self, amount: float, now_s: float) -> float:
        """Takes it and returns 0, or takes nothing and returns the seconds until there is enough.

        More than a minute's worth goes out of a full bucket, which then stays in debt.
        """
        self.level = min(self.per_minute, self.level + (now_s - self.filled_s) * self.per_minute / 60)
        self.filled_s = now_s
        needed = min(amount, self.per_minute)
        if self.level < needed:
            return (needed - self.level) * 60 / self.per_minute
        self.level -= amount
        return 0.0

    def give_back(self, amount: float) -> None:
        self.level = min(self.per_minute, self.level + amount)


class Admission:
    """Admits by estimate; what a request did not use is given back to its key when it ends.

    `longest_s` is what a request takes at most.
    """

    def __init__(
        self,
        tokens_in_flight: int,
        *,
        longest_s: float = math.inf,
        clock_s: Callable[[], float] = time.monotonic,
        meter: Meter = NO_METER,
    ) -> None:
        self.limit = tokens_in_flight
        self.in_flight = 0
        self._longest_s, self._clock_s, self._meter = longest_s, clock_s, meter
        self._freed = asyncio.Event()  # another one after each time
        self._add(0)
        self._requests: dict[str, TokenBucket] = {}
        self._tokens: dict[str, TokenBucket] = {}
        self._mean_s: float | None = None  # that requests were under way, of late

    @contextmanager
    def admit(self, key: Key, num_tokens: int) -> Iterator["Ticket"]:
        """Within, the tokens count as under way. Raises Refused at once, or not at all."""
        if not self._has_room(num_tokens):
            self._meter.refused("full")
            raise Refused("the service is full", self._wait_s(num_tokens), is_full=True)
        self._charge(key, num_tokens)
        ticket = Ticket(started_s=self._clock_s(), used=num_tokens)
        self._add(num_tokens)
        try:
            yield ticket
        finally:
            self._add(-num_tokens)
            tokens = self._bucket(self._tokens, key, key.tokens_per_minute, self._clock_s())
            tokens.give_back(num_tokens - ticket.used)
            self._learn(ticket)
            self._freed.set()
            self._freed = asyncio.Event()

    async def room(self, num_tokens: int) -> None:
        """Returns when `admit` would not find the service full, if it is called before anything else."""
        while not self._has_room(num_tokens):
            await self._freed.wait()

    def _has_room(self, num_tokens: int) -> bool:
        """Alone, a request may be larger than everything."""
        return not self.in_flight or self.in_flight + num_tokens <= self.limit

    def _wait_s(self, num_tokens: int) -> float:
        """Until there is room. By Little's law tokens leave at in_flight / mean time."""
        if self._mean_s is None:
            return 1
        excess = self.in_flight + num_tokens - self.limit
        return min(self._mean_s * excess / self.in_flight, self._longest_s)

    def _add(self, num_tokens: int) -> None:
        self.in_flight += num_tokens
        self._meter.in_flight(self.in_flight, limit=self.limit)

    def _charge(self, key: Key, num_tokens: int) -> None:
        now_s = self._clock_s()
        requests = self._bucket(self._requests, key, key.requests_per_minute, now_s)
        if wait_s := requests.take(1, now_s):
            self._meter.refused("requests")
            raise Refused(f"key {key.name!r} is past {key.requests_per_minute} requests a minute", wait_s)
        tokens = self._bucket(self._tokens, key, key.tokens_per_minute, now_s)
        if wait_s := tokens.take(num_tokens, now_s):
            requests.give_back(1)
            self._meter.refused("tokens")
            raise Refused(f"key {key.name!r} is past {key.tokens_per_minute} tokens a minute", wait_s)

    def _bucket(
        self, buckets: dict[str, TokenBucket], key: Key, per_minute: int, now_s: float
    ) -> TokenBucket:
        bucket = buckets.get(key.name)
        if bucket is None or bucket.per_minute != per_minute:  # new, or its limits changed in the file
            bucket = buckets[key.name] = TokenBucket(per_minute, per_minute, now_s)
        return bucket

    def _learn(self, ticket: "Ticket") -> None:
        if ticket.used:
            elapsed_s = self._clock_s() - ticket.started_s
            self._mean_s = elapsed_s if self._mean_s is None else 0.9 * self._mean_s + 0.1 * elapsed_s


@dataclass(slots=True)
class Ticket:
    """`used` is what the request took, prompt and sampled tokens: its estimate until that is known.

    So whoever leaves, or sets a deadline that passes, pays for what the engines did.
    """

    started_s: float
    used: int


def estimated_tokens(num_prompt_tokens: int, rewrite: Rewrite) -> int:
    """What a request may keep an engine busy with at one time: its largest wave, every sample at full length.

    The whole cascade can take several waves one after the other; counting them all would leave the engine
    half empty.
    """
    waves = (
        min(stage.wave_size, stage.num_samples) * stage.max_tokens
        for stage in (rewrite.self_align, rewrite.guided)
    )
    return num_prompt_tokens + max(waves)
