"""A request's events: what its stream sends while the cascade works, and how long the work took."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from drsft.records import Attempt, Phase
from drsft.rewrite.events import NoEvents
from serve.text_stream import TextStream

__all__ = ["Listener", "RequestEvents"]

Listener = Callable[[str, dict[str, Any]], None]  # the event's kind and data


class RequestEvents(NoEvents):
    """Sends the events of one request's cascade to a listener, if there is one, and measures its times.

    `sampling_s` counts while at least one sample is in an engine; `verifying_s` counts from the end of a
    sample to its verdict, summed over samples.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        listener: Listener | None,
        *,
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decode, self._listener, self._clock_s = decode, listener, clock_s
        self._texts: dict[tuple[Phase, int], TextStream] = {}
        self._num_in_engine = 0
        self._sampling_since_s = 0.0
        self._ended_s: dict[tuple[Phase, int], float] = {}
        self.sampling_s = 0.0
        self.verifying_s = 0.0

    @property
    def wants_tokens(self) -> bool:
        return self._listener is not None

    def phase_begun(self, phase: Phase) -> None:
        self._send("stage", phase)

    def sample_begun(self, phase: Phase, sample_index: int) -> None:
        if self._num_in_engine == 0:
            self._sampling_since_s = self._clock_s()
        self._num_in_engine += 1
        self._send("attempt", phase, sample_index=sample_index)

    def tokens_sampled(self, phase: Phase, sample_index: int, token_ids: Sequence[int]) -> None:
        text = self._texts.setdefault((phase, sample_index), TextStream(self._decode))
        self._send_text(phase, sample_index, text.add(token_ids))

    def sample_ended(self, phase: Phase, sample_index: int) -> None:
        now_s = self._clock_s()
        self._num_in_engine -= 1
        if self._num_in_engine == 0:
            self.sampling_s += now_s - self._sampling_since_s
        self._ended_s[phase, sample_index] = now_s
        if text := self._texts.pop((phase, sample_index), None):
            self._send_text(phase, sample_index, text.flush())

    def attempt_judged(self, attempt: Attempt) -> None:
        phase, sample_index, verdict = attempt.rollout.phase, attempt.rollout.sample_index, attempt.verdict
        self.verifying_s += self._clock_s() - self._ended_s.pop((phase, sample_index))
        self._send(
            "verdict",
            phase,
            sample_index=sample_index,
            outcome=verdict.outcome.value,
            reason=verdict.reason,
        )

    def _send_text(self, phase: Phase, sample_index: int, text: str) -> None:
        if text:
            self._send("tokens", phase, sample_index=sample_index, text=text)

    def _send(self, kind: str, phase: Phase, **data: Any) -> None:
        if self._listener is not None:
            self._listener(kind, {"stage": phase.value, **data})
