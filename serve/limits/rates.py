"""What a key may still ask for: requests and tokens a minute."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from serve.limits.keys import Key
from serve.telemetry import Meter

__all__ = ["Rates", "Refused", "Taken", "TokenBucket"]


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

    def fill(self, per_minute: int, now_s: float) -> None:
        """From now on at this rate. What was taken stays taken: a new limit is no new bucket."""
        self.level += (now_s - self.filled_s) * self.per_minute / 60
        self.level = min(self.per_minute, per_minute, self.level)
        self.per_minute, self.filled_s = per_minute, now_s

    def take(self, amount: float, now_s: float) -> float:
        """Takes it and returns 0, or takes nothing and returns the seconds until there is enough.

        More than a minute's worth goes out of a full bucket, which then stays in debt.
        """
        self.fill(self.per_minute, now_s)
        needed = min(amount, self.per_minute)
        if self.level < needed:
            return (needed - self.level) * 60 / self.per_minute
        self.level -= amount
        return 0.0

    def give_back(self, amount: float) -> None:
        self.level = min(self.per_minute, self.level + amount)


@dataclass(frozen=True, slots=True)
class Taken:
    """Something was taken out of the bucket while a minute was worth so much."""

    bucket: TokenBucket
    per_minute: int

    def give_back(self, amount: float) -> None:
        """Of a minute that is worth less by now the same share, or it would fill the bucket at once."""
        self.bucket.give_back(amount * min(1.0, self.bucket.per_minute / self.per_minute))


class Rates:
    """The buckets of all keys."""

    def __init__(self, *, clock_s: Callable[[], float], meter: Meter) -> None:
        self._clock_s, self._meter = clock_s, meter
        self._requests: dict[str, TokenBucket] = {}
        self._tokens: dict[str, TokenBucket] = {}

    def take_request(self, key: Key) -> Taken:
        """Raises Refused."""
        return self._take(self._requests, key, key.requests_per_minute, 1, "requests")

    def take_tokens(self, key: Key, num_tokens: int) -> Taken:
        """Raises Refused."""
        return self._take(self._tokens, key, key.tokens_per_minute, num_tokens, "tokens")

    def _take(
        self, buckets: dict[str, TokenBucket], key: Key, per_minute: int, amount: int, what: str
    ) -> Taken:
        now_s = self._clock_s()
        bucket = buckets.setdefault(key.name, TokenBucket(per_minute, per_minute, now_s))
        bucket.fill(per_minute, now_s)
        if wait_s := bucket.take(amount, now_s):
            self._meter.refused(what)
            raise Refused(f"key {key.name!r} is past {per_minute} {what} a minute", wait_s)
        return Taken(bucket, per_minute)
