"""Rates and times left of a stage, from what its engines have counted. Knows no Ray and no clock."""

from collections import deque
from dataclasses import dataclass, field

__all__ = ["WINDOW_S", "TokenMeter", "time_left_s"]

WINDOW_S = 10.0
_SHORTEST_S = 1.0  # two engines may report at the same moment


@dataclass(slots=True)
class TokenMeter:
    """Tokens that the engines of one stage have sampled. Times are any clock's that only moves forward."""

    num_tokens: float = 0
    _in_flight: dict[str, int] = field(default_factory=dict)
    _began_s: float | None = None
    _readings: deque[tuple[float, float]] = field(default_factory=deque)  # (time, tokens of all engines)

    @property
    def num_in_flight(self) -> int:
        """Samples that the engines have and have not finished."""
        return sum(self._in_flight.values())

    def read(self, engine: str, num_new_tokens: float, num_in_flight: int, *, now_s: float) -> None:
        """Takes what an engine has sampled since its last report, and its samples at this moment."""
        self._in_flight[engine] = num_in_flight
        self.num_tokens += num_new_tokens
        self._began_s = now_s if self._began_s is None else self._began_s
        self._readings.append((now_s, self.num_tokens))
        while len(self._readings) > 1 and self._readings[1][0] <= now_s - WINDOW_S:
            self._readings.popleft()

    def forget(self, engine: str) -> None:
        """What an engine that ended or died had in flight is in flight no more."""
        self._in_flight.pop(engine, None)

    def tokens_per_s(self, *, now_s: float) -> float | None:
        """Over the last seconds; None before the first token and in the first second."""
        if not self._readings or not self.num_tokens:
            return None
        began_s, before = self._readings[0]
        return (self.num_tokens - before) / (now_s - began_s) if now_s - began_s >= _SHORTEST_S else None

    def mean_tokens_per_s(self) -> float | None:
        """From the first report to the last one; None before the first token and in the first second."""
        if self._began_s is None or not self.num_tokens:
            return None
        span_s = self._readings[-1][0] - self._began_s
        return self.num_tokens / span_s if span_s >= _SHORTEST_S else None


def time_left_s(
    *,
    num_done: float,
    num_left: float,
    tokens_of_done: float,
    tokens_sampled: float,
    tokens_per_s: float | None,
) -> float | None:
    """Seconds until the problems left are sampled, if they take as many tokens as those done.

    What is sampled beyond the done ones counts as work done. None while no problem is done, while there is
    no rate, and when the ones in flight are longer than those done, so that these say nothing.
    """
    if not (num_done and tokens_of_done and tokens_per_s):
        return None
    tokens_left = num_left * tokens_of_done / num_done - max(tokens_sampled - tokens_of_done, 0)
    return tokens_left / tokens_per_s if tokens_left > 0 else None
