"""Converts the cascade's events to those of a request's stream, and measures how long each part took."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from drsft.policy.turn.part_stream import Part, PartStream, Piece
from drsft.records import Attempt, Phase
from drsft.rewrite.events import NoEvents
from serve.api import AttemptEvent, StageEvent, StreamEvent, TokensEvent, VerdictEvent
from serve.text_stream import TextStream

__all__ = ["Listener", "RequestEvents"]

Listener = Callable[[str, dict[str, Any]], None]  # the event's kind and data


class _PartTexts:
    """Decodes the texts of a sample's parts as they arrive."""

    def __init__(self, parts: PartStream, decode: Callable[[Sequence[int]], str]) -> None:
        self._parts, self._decode = parts, decode
        self._part, self._text = Part.ANSWER, TextStream(decode)

    def add(self, token_ids: Sequence[int]) -> Iterator[tuple[Part, str]]:
        return self._told(self._parts.add(token_ids))

    def finish(self) -> Iterator[tuple[Part, str]]:
        yield from self._told(self._parts.finish())
        if rest := self._text.flush():
            yield self._part, rest

    def _told(self, pieces: Sequence[Piece]) -> Iterator[tuple[Part, str]]:
        for piece in pieces:
            takes_back = piece.part is Part.THOUGHT and self._part is Part.ANSWER
            if piece.part is not self._part:
                if not takes_back and (rest := self._text.flush()):
                    yield self._part, rest
                self._part, self._text = piece.part, TextStream(self._decode)
            text = self._text.add(piece.ids)
            if text or takes_back:  # an empty text reports this too
                yield piece.part, text


class RequestEvents(NoEvents):
    """Sends the events of one request's cascade to a listener, if there is one, and measures its times.

    `sampling_s` is the time while at least one sample was in an engine; `verifying_s` is the time from the
    end of a sample to its verdict, summed over samples. Both are in seconds.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        listener: Listener | None,
        *,
        part_stream: Callable[[], PartStream] = lambda: PartStream(None, lambda ids: ""),
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decode, self._listener, self._clock_s = decode, listener, clock_s
        self._part_stream = part_stream
        self._parts: dict[tuple[Phase, int], _PartTexts] = {}
        self._num_in_engine = 0
        self._sampling_since_s = 0.0
        self._ended_s: dict[tuple[Phase, int], float] = {}
        self.sampling_s = 0.0
        self.verifying_s = 0.0

    @property
    def wants_tokens(self) -> bool:
        return self._listener is not None

    def phase_begun(self, phase: Phase) -> None:
        self._send(StageEvent(stage=phase.value))

    def sample_begun(self, phase: Phase, sample_index: int) -> None:
        if self._num_in_engine == 0:
            self._sampling_since_s = self._clock_s()
        self._num_in_engine += 1
        self._send(AttemptEvent(stage=phase.value, sample_index=sample_index))

    def tokens_sampled(self, phase: Phase, sample_index: int, token_ids: Sequence[int]) -> None:
        parts = self._parts.get((phase, sample_index))
        if parts is None:
            parts = self._parts[phase, sample_index] = _PartTexts(self._part_stream(), self._decode)
        self._send_texts(phase, sample_index, parts.add(token_ids))

    def sample_ended(self, phase: Phase, sample_index: int) -> None:
        now_s = self._clock_s()
        self._num_in_engine -= 1
        if self._num_in_engine == 0:
            self.sampling_s += now_s - self._sampling_since_s
        self._ended_s[phase, sample_index] = now_s
        if parts := self._parts.pop((phase, sample_index), None):
            self._send_texts(phase, sample_index, parts.finish())

    def attempt_judged(self, attempt: Attempt) -> None:
        phase, sample_index, verdict = attempt.rollout.phase, attempt.rollout.sample_index, attempt.verdict
        self.verifying_s += self._clock_s() - self._ended_s.pop((phase, sample_index))
        self._send(
            VerdictEvent(
                stage=phase.value, sample_index=sample_index, outcome=verdict.outcome, reason=verdict.reason
            )
        )

    def _send_texts(self, phase: Phase, sample_index: int, texts: Iterable[tuple[Part, str]]) -> None:
        for part, text in texts:
            self._send(TokensEvent(stage=phase.value, sample_index=sample_index, part=part, text=text))

    def _send(self, event: StreamEvent) -> None:
        if self._listener is not None:
            self._listener(event.kind, event.model_dump(mode="json"))
