"""Who gets in now: a rate for each key, and a bound on the tokens that are under way. Nothing queues here.

All state is of one ingress replica and its event loop: with R replicas a key has R times its rate.
"""

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
    """Admits by estimate; what a request did not use is given back to its key when it ends."""

    def __init__(
        self,
        tokens_in_flight: int,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        meter: Meter = NO_METER,
    ) -> None:
        self.limit = tokens_in_flight
        self.in_flight = 0
        self._clock_s, self._meter = clock_s, meter
        self._add(0)
        self._requests: dict[str, TokenBucket] = {}
        self._tokens: dict[str, TokenBucket] = {}
        self._tokens_per_s = 0.0  # of late: what the engines get done

    @contextmanager
    def admit(self, key: Key, num_tokens: int) -> Iterator["Ticket"]:
        """Within, the tokens count as under way. Raises Refused at once, or not at all."""
        if self.in_flight and self.in_flight + num_tokens > self.limit:
            self._meter.refused("full")
            excess = self.in_flight + num_tokens - self.limit
            wait_s = excess / self._tokens_per_s if self._tokens_per_s else 1
            raise Refused("the service is full", wait_s, is_full=True)
        self._charge(key, num_tokens)
        ticket = Ticket(started_s=self._clock_s())
        self._add(num_tokens)
        try:
            yield ticket
        finally:
            self._add(-num_tokens)
            tokens = self._bucket(self._tokens, key, key.tokens_per_minute, self._clock_s())
            tokens.give_back(num_tokens - ticket.used)
            self._learn(ticket)

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
        elapsed_s = self._clock_s() - ticket.started_s
        if ticket.used and elapsed_s > 0:
            rate = ticket.used / elapsed_s
            self._tokens_per_s = rate if not self._tokens_per_s else 0.9 * self._tokens_per_s + 0.1 * rate


@dataclass(slots=True)
class Ticket:
    """`used` is what the request really took: prompt and sampled tokens."""

    started_s: float
    used: int = 0


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
