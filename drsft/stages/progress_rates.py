"""Computes rates and remaining times of a stage from its engines' counts, without Ray or a clock."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["WINDOW_S", "TokenMeter", "TrainingClock", "time_left_s"]

WINDOW_S = 10.0
_SHORTEST_S = 1.0  # two engines may report at the same moment


@dataclass(slots=True)
class TokenMeter:
    """Counts the tokens that a stage's engines have sampled. Times may be of any monotonic clock."""

    num_tokens: float = 0
    _in_flight: dict[str, int] = field(default_factory=dict)
    _began_s: float | None = None
    _readings: deque[tuple[float, float]] = field(default_factory=deque)  # (time, tokens of all engines)

    @property
    def num_in_flight(self) -> int:
        """Samples that the engines have begun and not finished."""
        return sum(self._in_flight.values())

    def read(self, engine: str, num_new_tokens: float, num_in_flight: int, *, now_s: float) -> None:
        """Records the tokens that an engine sampled since its last report, and its samples in flight now."""
        self._in_flight[engine] = num_in_flight
        self.num_tokens += num_new_tokens
        self._began_s = now_s if self._began_s is None else self._began_s
        self._readings.append((now_s, self.num_tokens))
        while len(self._readings) > 1 and self._readings[1][0] <= now_s - WINDOW_S:
            self._readings.popleft()

    def forget(self, engine: str) -> None:
        """Drops the samples in flight of an engine that ended or failed."""
        self._in_flight.pop(engine, None)

    def tokens_per_s(self, *, now_s: float) -> float | None:
        """Returns the tokens per second of all engines together over the last WINDOW_S seconds.

        Returns None before the first token and in the first second.
        """
        if not self._readings:
            return None
        began_s, before = self._readings[0]
        num_tokens, span_s = self.num_tokens - before, now_s - began_s
        return num_tokens / span_s if num_tokens and span_s >= _SHORTEST_S else None

    def mean_tokens_per_s(self) -> float | None:
        """Returns the mean tokens per second of all engines together since the first report.

        Returns None before the first token and in the first second.
        """
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
    """Returns the seconds until the remaining problems are sampled, if they take as many tokens as the
    finished ones.

    Tokens of unfinished problems count as work done. It returns None while no problem is done, while there is
    no rate, and if the problems in flight are already longer than finished ones, so that no estimate is
    possible.
    """
    if not (num_done and tokens_of_done and tokens_per_s):
        return None
    tokens_left = num_left * tokens_of_done / num_done - max(tokens_sampled - tokens_of_done, 0)
    return tokens_left / tokens_per_s if tokens_left > 0 else None


@dataclass(slots=True)
class _Pace:
    """The number and the total time of an arm's steps, without each training's first step, which includes
    compiling.
    """

    num_steps: int = 0
    wall_s: float = 0.0


class TrainingClock:
    """Estimates the remaining time of trainings that run one after the other.

    Each arm has its own time per step. Each training also takes time besides its steps: it loads a model and
    compiles before them, and exports after them. For an arm that has not trained yet, the mean of the others
    is used.
    """

    def __init__(self, jobs: Sequence[tuple[str, int]]) -> None:
        """`jobs` are the unfinished trainings, in order: each an arm and its number of steps."""
        self._jobs = deque(jobs)
        self._paces: dict[str, _Pace] = {}
        self._before_s: list[float] = []  # of each training, until its first step has ended
        self._behind_s: list[float] = []  # of each training, from its last step on
        self._began_s: float | None = None
        self._last: tuple[int, float] | None = None  # the training's newest step and when it ended

    def begin(self, *, now_s: float) -> None:
        self._began_s, self._last = now_s, None

    def step(self, step: int, *, now_s: float) -> None:
        """Records that the current training has done `step` steps."""
        if self._last is None:
            assert self._began_s is not None
            self._before_s.append(now_s - self._began_s)
        else:
            pace = self._paces.setdefault(self._jobs[0][0], _Pace())
            pace.num_steps += step - self._last[0]
            pace.wall_s += now_s - self._last[1]
        self._last = step, now_s

    def end(self, *, now_s: float) -> None:
        """Records that the current training (one arm with one seed) has ended and its result is committed."""
        self._jobs.popleft()
        if self._last is not None:
            self._behind_s.append(now_s - self._last[1])
        self._began_s = self._last = None

    def left_s(self, *, now_s: float) -> float | None:
        """Returns the seconds until all trainings end; None until one of them has done a second step."""
        if not self._paces:
            return None
        before_s, behind_s = _mean(self._before_s), _mean(self._behind_s)
        left_s = sum(before_s + steps * self._step_s(arm) + behind_s for arm, steps in self._jobs)
        if self._last is not None:
            step, stepped_s = self._last
            left_s -= before_s + step * self._step_s(self._jobs[0][0]) + now_s - stepped_s
        elif self._began_s is not None:
            left_s -= min(now_s - self._began_s, before_s)
        return max(left_s, 0.0)

    def _step_s(self, arm: str) -> float:
        known = [self._paces[arm]] if arm in self._paces else list(self._paces.values())
        return _mean([pace.wall_s / pace.num_steps for pace in known])


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
