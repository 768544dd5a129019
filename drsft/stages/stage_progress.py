"""Tracks the progress of one stage from its workers' reports.

It uses neither Ray nor a clock; the board has the clock.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from drsft.policy.vllm.start_phases import EnginePhase
from drsft.stages.progress_rates import TokenMeter, time_left_s

__all__ = ["StageProgress", "StageState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """The progress of one stage at one moment."""

    stage: str
    done: float = 0
    total: float = 0
    is_growing: bool = False  # the total is that of the data read so far
    done_before: float = 0  # of it, by an earlier start
    note: str = ""
    counts: Mapping[str, float] = field(default_factory=dict)
    engines: Mapping[EnginePhase, int] = field(default_factory=dict)  # how many are in each phase
    num_samples: int = 0  # that its engines have finished in this start
    num_in_flight: int = 0  # samples
    tokens_per_s: float | None = None  # of the last seconds; of the whole stage once it is done
    elapsed_s: float = 0.0
    remaining_s: float | None = None

    @property
    def is_done(self) -> bool:
        return self.done >= self.total > 0 and not self.is_growing


@dataclass(slots=True, kw_only=True)
class StageState:
    """A stage's counters, updated by its workers' messages."""

    stage: str
    began_s: float
    done: float = 0
    total: float = 0
    is_growing: bool = False
    note: str = ""
    counts: dict[str, float] = field(default_factory=dict)
    done_before: float = 0  # of an earlier start; it says nothing about the rate of this one
    tokens_of_done: float = 0
    num_samples: int = 0
    engines: dict[str, EnginePhase] = field(default_factory=dict)
    meter: TokenMeter = field(default_factory=TokenMeter)
    left_s: float | None = None  # as reported by the stage's single process in its last update
    first_update: tuple[float, float] | None = None  # (time, done)
    updated_s: float | None = None

    def add(self, done: float, num_tokens: float, counts: Mapping[str, float], *, now_s: float) -> None:
        """Adds the problems (`done`), tokens and other counts of one worker since its last message.

        Problems of a shard that a lost worker had begun are counted again when the shard is repeated.
        """
        self._set_done(min(self.done + done, self.total or math.inf), now_s)
        self.tokens_of_done += num_tokens
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def update(
        self,
        done: float,
        total: float,
        note: str,
        counts: Mapping[str, float],
        *,
        left_s: float | None,
        now_s: float,
    ) -> None:
        """Sets the progress of a stage that one process reports."""
        self.total, self.counts, self.left_s = total, dict(counts), left_s
        self._set_done(done, now_s)
        self.note = note

    def _set_done(self, done: float, now_s: float) -> None:
        self.done, self.note, self.updated_s = done, "", now_s
        self.first_update = self.first_update or (now_s, done)

    def grow(self, total: float, done: float) -> None:
        """Adds `total` units of work to the stage, of which an earlier start has done `done`."""
        self.total, self.done, self.done_before = (
            self.total + total,
            self.done + done,
            self.done_before + done,
        )

    def engine_is(self, engine: str, phase: EnginePhase) -> None:
        self.engines[engine] = phase

    def engine_samples(
        self,
        engine: str,
        num_new_tokens: float,
        num_in_flight: int,
        *,
        num_new_samples: int = 0,
        now_s: float,
    ) -> None:
        self.num_samples += num_new_samples
        self.meter.read(engine, num_new_tokens, num_in_flight, now_s=now_s)
        if num_new_tokens:
            self.engines[engine] = EnginePhase.SAMPLING
        elif num_in_flight and self.engines.get(engine) is EnginePhase.READY:
            self.engines[engine] = EnginePhase.FIRST_TOKENS

    def engine_ends(self, engine: str) -> None:
        self.engines.pop(engine, None)
        self.meter.forget(engine)

    def at(self, now_s: float) -> StageProgress:
        is_done = self.done >= self.total > 0 and not self.is_growing
        ended_s = self.updated_s if is_done and self.updated_s is not None else now_s
        rate = self.meter.mean_tokens_per_s() if is_done else self.meter.tokens_per_s(now_s=now_s)
        return StageProgress(
            stage=self.stage,
            done=self.done,
            total=self.total,
            is_growing=self.is_growing,
            done_before=self.done_before,
            note=self.note,
            counts=dict(self.counts),
            engines={} if is_done else Counter(self.engines.values()),
            num_samples=self.num_samples,
            num_in_flight=0 if is_done else self.meter.num_in_flight,
            tokens_per_s=rate,
            elapsed_s=ended_s - self.began_s,
            remaining_s=None if is_done or self.is_growing else self._remaining_s(now_s),
        )

    def _remaining_s(self, now_s: float) -> float | None:
        if self.left_s is not None and self.updated_s is not None:
            return max(self.left_s - (now_s - self.updated_s), 0.0)
        if not self.meter.num_tokens:
            return self._remaining_by_updates()
        return time_left_s(
            num_done=self.done - self.done_before,
            num_left=self.total - self.done,
            tokens_of_done=self.tokens_of_done,
            tokens_sampled=self.meter.num_tokens,
            # The mean, since the rate of the last seconds is near zero whenever engines change models.
            tokens_per_s=self.meter.mean_tokens_per_s(),
        )

    def _remaining_by_updates(self) -> float | None:
        """Returns the time left of a stage without engines.

        The first update is ignored, since the beginning of its work is unknown.
        """
        if self.first_update is None or self.updated_s is None:
            return None
        first_s, first_done = self.first_update
        num_done, span_s = self.done - first_done, self.updated_s - first_s
        return span_s / num_done * (self.total - self.done) if num_done > 0 and span_s > 0 else None
