"""Stands between the cascade and what it asks, and tells whoever listens what passes."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from drsft.policy.prompts import Prompter
from drsft.records import Completion, Problem, Sampling, Verdict
from drsft.verify.protocol import Verifier
from serve.text_stream import TextSoFar

__all__ = ["Listener", "OnTokens", "StreamingPolicy", "Watch"]

Listener = Callable[[str, dict[str, Any]], None]  # the event's kind and data
OnTokens = Callable[[int, Sequence[int]], None]  # the sample's index in its wave, its new token ids


class StreamingPolicy(Protocol):
    """A `Policy` that can tell of tokens as they come."""

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]: ...


class Watch:
    """Stands between the cascade and its two seams: tells the listener what passes, and takes the time."""

    def __init__(
        self,
        policy: StreamingPolicy,
        verifier: Verifier,
        prompter: Prompter,
        problem: Problem,
        listener: Listener | None,
    ) -> None:
        self._policy, self._verifier, self._prompter = policy, verifier, prompter
        self._listener = listener
        self._plain_ids = prompter.plain(problem)
        self._stage = ""
        self._num_asked = 0  # samples of this stage that were asked for
        self._unjudged: dict[str, list[int]] = {}  # text -> its samples without verdict
        self.sampling_s = 0.0
        self.verifying_s = 0.0

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> list[Completion]:
        stage = "self_align" if tuple(prompt_ids) == self._plain_ids else "guided"
        if stage != self._stage:
            self._stage, self._num_asked = stage, 0
            self._tell("stage", stage=stage)
        first_index = self._num_asked
        self._num_asked += sampling.num_samples
        for index in range(first_index, self._num_asked):
            self._tell("attempt", stage=stage, sample_index=index)
        started_s = time.perf_counter()
        texts: dict[int, TextSoFar] = {}
        completions = await self._policy.generate(
            prompt_ids, sampling, on_tokens=self._token_teller(stage, first_index, texts)
        )
        self.sampling_s += time.perf_counter() - started_s
        for index, so_far in texts.items():
            self._tell_text(stage, first_index + index, so_far.rest())
        for index, completion in enumerate(completions, first_index):
            self._unjudged.setdefault(completion.text, []).append(index)
        return completions

    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        started_s = time.perf_counter()
        verdict = await self._verifier.judge(problem, text, is_truncated=is_truncated)
        self.verifying_s += time.perf_counter() - started_s
        if waiting := self._unjudged.get(text):
            self._tell(
                "verdict",
                stage=self._stage,
                sample_index=waiting.pop(0),
                outcome=verdict.outcome.value,
                reason=verdict.reason,
            )
        return verdict

    def _token_teller(self, stage: str, first_index: int, texts: dict[int, TextSoFar]) -> OnTokens | None:
        if self._listener is None:
            return None

        def on_tokens(index: int, token_ids: Sequence[int]) -> None:
            so_far = texts.setdefault(index, TextSoFar(self._prompter.decode))
            self._tell_text(stage, first_index + index, so_far.add(token_ids))

        return on_tokens

    def _tell_text(self, stage: str, sample_index: int, text: str) -> None:
        if text:
            self._tell("tokens", stage=stage, sample_index=sample_index, text=text)

    def _tell(self, kind: str, **data: Any) -> None:
        if self._listener is not None:
            self._listener(kind, data)
