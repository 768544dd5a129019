"""Implements a policy on vLLM: asyncio callers submit requests, and a thread steps the engine.

The engine runs in this process: replacing it for another checkpoint takes a third of a second instead of a
process start, and requests pass to a thread, not through a socket.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from drsft.config import Target
from drsft.errors import InputError
from drsft.policy.engine_loop import EngineCounts, EngineLoop, SteppedEngine
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Draw, OnTokens
from drsft.policy.vllm.engine import build_engine
from drsft.policy.vllm.sampler import PlainSampler, SampleRequest, ScoreRequest, SharedPrompt
from drsft.policy.vllm.start_phases import EnginePhase, OnPhase
from drsft.records import Completion, Sampling

__all__ = ["VLLMPolicy"]

WrapSampler = Callable[[PlainSampler], SteppedEngine]


class VLLMPolicy:
    """Samples completions of one model; `close()` (or leaving `with`) stops the engine and frees its memory.

    Raises ModelError when the model cannot be loaded; after an engine failure every call raises StageError.
    """

    def __init__(
        self,
        target: Target,
        prompter: Prompter,
        *,
        engine_options: Mapping[str, Any] | None = None,
        wrap: WrapSampler | None = None,
        on_phase: OnPhase = lambda phase: None,
    ) -> None:
        """`engine_options` are passed to vLLM and override the target's.

        `wrap` returns an engine to step in place of the sampler, one that also takes other requests.
        `on_phase` is called in another thread with what the engine does until it is ready.
        """
        self.max_model_len = target.max_model_len
        build = partial(_build, target, prompter, engine_options or {}, wrap, on_phase)
        self.loop: EngineLoop[SteppedEngine] = EngineLoop(build, name="vLLM engine")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        """Returns `sampling.num_samples` completions, as `Policy.generate` specifies.

        `on_tokens` is called in the caller's loop with the new tokens of each engine step.
        """
        draws = self.draw(prompt_ids, sampling, on_tokens=on_tokens)
        try:
            return list(await asyncio.gather(*(draw.completion for draw in draws)))
        except BaseException:  # cancelled, or one of them failed: the others' results are not needed
            for draw in draws:
                draw.stop()
            raise

    def draw(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Draw]:
        if len(prompt_ids) >= self.max_model_len:
            raise InputError(
                f"the prompt has {len(prompt_ids)} tokens, which leaves no room for a solution; "
                f"target.max_model_len is {self.max_model_len}; raise it"
            )
        loop = asyncio.get_running_loop()
        prompt = SharedPrompt(list(prompt_ids), sampling)
        draws = []
        for index in range(sampling.num_samples):
            request_id = self.loop.new_request_id()
            request = SampleRequest(request_id, index, prompt, loop.create_future(), loop, on_tokens)
            self.loop.add(request)
            draws.append(Draw(request.future, partial(self.loop.cancel, request_id)))
        return draws

    async def logprobs(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[float, ...]:
        """Returns each token's ln p, as `ScoringPolicy.logprobs` specifies; the engine reads the text as part
        of a prompt.
        """
        if not prompt_ids or not completion_ids:
            raise ValueError("prompt and completion must both have tokens")
        num_tokens = len(prompt_ids) + len(completion_ids)
        if num_tokens > self.max_model_len:
            raise InputError(
                f"prompt and text together have {num_tokens} tokens, which is more than "
                f"target.max_model_len: {self.max_model_len}; raise it, or shorten the text"
            )
        # vLLM requires room for one sampled token.
        completion_ids = completion_ids[: self.max_model_len - 1 - len(prompt_ids)]
        loop = asyncio.get_running_loop()
        request_id = self.loop.new_request_id()
        request = ScoreRequest(request_id, prompt_ids, completion_ids, loop.create_future(), loop)
        self.loop.add(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self.loop.cancel(request_id)
            raise

    @property
    def num_pending(self) -> int:
        """The number of requests that the engine has not finished."""
        return len(self.loop.engine.unfinished())

    def counts(self) -> EngineCounts:
        """Returns what the engine has sampled so far, and how many samples are unfinished."""
        return self.loop.engine.counts()

    @property
    def busy_s(self) -> float:
        """Seconds that the engine has spent in steps so far."""
        return self.loop.busy_s

    def check(self, *, max_silence_s: float) -> None:
        """Raises StageError if the engine has failed, or if it has requests but has completed no step for
        `max_silence_s` seconds.
        """
        self.loop.check(max_silence_s=max_silence_s)

    def close(self) -> None:
        self.loop.close()


def _build(
    target: Target,
    prompter: Prompter,
    engine_options: Mapping[str, Any],
    wrap: WrapSampler | None,
    on_phase: OnPhase,
) -> SteppedEngine:
    on_phase(EnginePhase.LOADING)
    sampler = PlainSampler(build_engine(target, engine_options, on_phase=on_phase), prompter)
    on_phase(EnginePhase.READY)
    return wrap(sampler) if wrap else sampler
