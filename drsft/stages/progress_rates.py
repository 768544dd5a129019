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
    _by_engine: dict[str, float] = field(default_factory=dict)
    _in_flight: dict[str, int] = field(default_factory=dict)
    _readings: deque[tuple[float, float]] = field(default_factory=deque)  # (time, tokens of all engines)

    @property
    def num_in_flight(self) -> int:
        """Samples that the engines have and have not finished."""
        return sum(self._in_flight.values())

    def read(self, engine: str, num_tokens: float, num_in_flight: int, *, now_s: float) -> None:
        """Takes an engine's counters: all its tokens so far, and its samples at this moment."""
        grown = max(num_tokens - self._by_engine.get(engine, 0), 0)
        self._by_engine[engine] = max(num_tokens, self._by_engine.get(engine, 0))
        self._in_flight[engine] = num_in_flight
        self.num_tokens += grown
        self._readings.append((now_s, self.num_tokens))
        while len(self._readings) > 1 and self._readings[1][0] <= now_s - WINDOW_S:
            self._readings.popleft()

    def tokens_per_s(self, *, now_s: float) -> float | None:
        """Over the last seconds; None before the first token and in the first second."""
        if not self._readings or not self.num_tokens:
            return None
        began_s, before = self._readings[0]
        return (self.num_tokens - before) / (now_s - began_s) if now_s - began_s >= _SHORTEST_S else None


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
