"""Limits a key's rates: requests and tokens per minute, as token buckets."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from serve.limits.keys import Key
from serve.service_metrics import ServiceMetrics

__all__ = ["Rates", "Rejected", "Reservation", "TokenBucket"]


class Rejected(Exception):  # noqa: N818 - a response, not an error
    """The request is rejected (429); retry after `retry_after_s`.

    With `is_full` the service lacks capacity; otherwise the key is over its rate.
    """

    def __init__(self, reason: str, retry_after_s: float, *, is_full: bool = False) -> None:
        super().__init__(reason)
        self.is_full = is_full
        self.retry_after_s = max(1, math.ceil(retry_after_s))


@dataclass(slots=True)
class TokenBucket:
    """A token bucket: `level` is what may be taken; it rises continuously, to one minute's amount."""

    per_minute: int
    level: float
    filled_s: float

    def fill(self, per_minute: int, now_s: float) -> None:
        """Refills up to `now_s`, then continues at the new rate; the level is kept when a limit changes."""
        self.level += (now_s - self.filled_s) * self.per_minute / 60
        self.level = min(self.per_minute, per_minute, self.level)
        self.per_minute, self.filled_s = per_minute, now_s

    def take(self, amount: float, now_s: float) -> float:
        """Takes the amount and returns 0, or takes nothing and returns the seconds to wait.

        An amount above one minute's is taken from a full bucket, whose level is negative afterwards.
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
class Reservation:
    """Records that something was taken from a bucket, and the bucket's rate at that time."""

    bucket: TokenBucket
    per_minute: int

    def give_back(self, amount: float) -> None:
        """Puts an amount back into the bucket, scaled down if the bucket's rate was lowered since."""
        self.bucket.give_back(amount * min(1.0, self.bucket.per_minute / self.per_minute))


class Rates:
    """The token buckets of all API keys: each key has one for requests and one for tokens."""

    def __init__(self, *, clock_s: Callable[[], float], metrics: ServiceMetrics) -> None:
        self._clock_s, self._metrics = clock_s, metrics
        self._requests: dict[str, TokenBucket] = {}
        self._tokens: dict[str, TokenBucket] = {}

    def take_request(self, key: Key) -> Reservation:
        """Takes one request from the key's bucket. Raises Rejected when the key is over its rate."""
        return self._take(self._requests, key, key.requests_per_minute, 1, "requests")

    def take_tokens(self, key: Key, num_tokens: int) -> Reservation:
        """Takes the tokens from the key's bucket. Raises Rejected when the key is over its rate."""
        return self._take(self._tokens, key, key.tokens_per_minute, num_tokens, "tokens")

    def _take(
        self, buckets: dict[str, TokenBucket], key: Key, per_minute: int, amount: int, what: str
    ) -> Reservation:
        now_s = self._clock_s()
        bucket = buckets.setdefault(key.name, TokenBucket(per_minute, per_minute, now_s))
        bucket.fill(per_minute, now_s)
        if wait_s := bucket.take(amount, now_s):
            self._metrics.rejected(what)
            raise Rejected(f"key {key.name!r} is over its limit of {per_minute} {what} a minute", wait_s)
        return Reservation(bucket, per_minute)
