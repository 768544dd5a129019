"""Samples with a vLLM engine: each sample is a request of its own, which can be stopped alone.

Written for vLLM 0.32 (V1 engine). Everything runs in the thread of an EngineLoop.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from drsft.errors import InputError
from drsft.policy.engine_loop import EngineCounts, EngineRequest, Settled, check_token_ids, refusal, settle
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import OnTokens
from drsft.policy.vllm.engine import never_sample, sampling_params, scoring_params
from drsft.policy.vocabulary import ids_without_text
from drsft.records import Completion, FinishReason, Sampling

__all__ = ["PlainSampler", "SampleRequest", "ScoreRequest", "SharedPrompt", "stopped_completion"]


@dataclass(slots=True)
class SharedPrompt:
    """The parts shared by the samples of one prompt; vLLM checks and prepares them once."""

    ids: list[int]
    sampling: Sampling
    prepared: Any = None


@dataclass(slots=True)
class SampleRequest:
    """A request for one sample; `future` gets its Completion."""

    request_id: str
    index: int  # in its draw
    prompt: SharedPrompt
    future: asyncio.Future[Completion]
    loop: asyncio.AbstractEventLoop
    on_tokens: OnTokens | None = None
    num_sent: int = 0

    @property
    def num_reserved_tokens(self) -> int:
        """The most tokens of KV cache that the sample can need."""
        return len(self.prompt.ids) + self.prompt.sampling.max_tokens

    def send_tokens(self, token_ids: Sequence[int]) -> None:
        """Calls `on_tokens`, in the caller's event loop, with those of `token_ids` (all tokens so far) that
        it has not got yet.
        """
        if self.on_tokens is not None and len(token_ids) > self.num_sent:
            new_ids, self.num_sent = tuple(token_ids[self.num_sent :]), len(token_ids)
            with suppress(RuntimeError):  # the event loop was closed: there are no listeners any more
                self.loop.call_soon_threadsafe(self.on_tokens, self.index, new_ids)


@dataclass(slots=True)
class ScoreRequest:
    """A request for how likely a text is after a prompt; `future` gets its tokens' log-probs."""

    request_id: str
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    future: asyncio.Future[tuple[float, ...]]
    loop: asyncio.AbstractEventLoop
    reads_cache: bool = True  # the prompt's beginning, from vLLM's prefix cache

    @property
    def num_reserved_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


class PlainSampler:
    """A vLLM engine with the samples and the texts to score that are in it. Ids that stand for no text are
    never sampled.
    """

    def __init__(self, engine: Any, prompter: Prompter) -> None:
        self.engine = engine
        self.pending: dict[str, SampleRequest | ScoreRequest] = {}
        self.num_embeddings = int(engine.vllm_config.model_config.get_vocab_size())
        self._prompter = prompter
        self._num_ended = self._num_ended_tokens = 0
        self._tasks = engine.get_supported_tasks()
        never_sample(engine, ids_without_text(prompter.tokenizer, self.num_embeddings))

    @property
    def is_idle(self) -> bool:
        return not self.pending

    def unfinished(self) -> Sequence[EngineRequest]:
        return list(self.pending.values())

    def counts(self) -> EngineCounts:
        """Returns how many tokens and samples the engine has made, from vLLM's own states of the samples, so
        that counting costs no step time.
        """
        samples = [name for name, one in list(self.pending.items()) if isinstance(one, SampleRequest)]
        states = self.engine.output_processor.request_states
        found = [state for name in samples if (state := states.get(name)) is not None]
        num_tokens = sum(state.detokenizer.num_output_tokens() for state in found)
        return EngineCounts(self._num_ended_tokens + num_tokens, len(samples), self._num_ended)

    def add(self, request: SampleRequest | ScoreRequest) -> None:
        """Passes a request to vLLM. Raises InputError or an error of vLLM's.

        It does what LLMEngine.add_request does for the samples of n > 1, but without the parent request,
        which would hold all of them back until the last one is done.
        """
        prepared = self._score(request) if isinstance(request, ScoreRequest) else self._sample(request)
        prepared.request_id = prepared.external_req_id = request.request_id
        self.engine.output_processor.add_request(prepared, None, None, 0)
        try:
            self.engine.engine_core.add_request(prepared)
        except BaseException:
            self.engine.abort_request([request.request_id], internal=True)
            raise
        self.pending[request.request_id] = request

    def _sample(self, request: SampleRequest) -> Any:
        prompt = request.prompt
        prompt.prepared = prompt.prepared or self._prepare(prompt, is_streamed=bool(request.on_tokens))
        sample = copy(prompt.prepared)
        sample.sampling_params = copy(sample.sampling_params)
        sample.sampling_params.seed = prompt.sampling.seed + request.index
        return sample

    def _score(self, request: ScoreRequest) -> Any:
        ids = [*request.prompt_ids, *request.completion_ids]
        check_token_ids(ids, self.num_embeddings)
        return self.engine.input_processor.process_inputs(
            "", {"prompt_token_ids": ids}, scoring_params(reads_cache=request.reads_cache), self._tasks
        )

    def _prepare(self, prompt: SharedPrompt, *, is_streamed: bool) -> Any:
        check_token_ids(prompt.ids, self.num_embeddings)
        sampling = replace(prompt.sampling, num_samples=1)
        params = sampling_params(sampling, self._prompter.turn.end_token_ids, is_streamed=is_streamed)
        return self.engine.input_processor.process_inputs(
            "", {"prompt_token_ids": prompt.ids}, params, self._tasks
        )

    def cancel(self, request_id: str) -> None:
        """Stops a request. A sample completes with the tokens sampled so far; the future of a text to score
        gets no result.
        """
        request = self.pending.pop(request_id, None)
        if request is None:
            return
        state = self.engine.output_processor.request_states[request_id]
        self.engine.abort_request([request_id], internal=True)
        if isinstance(request, SampleRequest):
            token_ids = tuple(state.detokenizer.output_token_ids)
            self._num_ended += 1
            self._num_ended_tokens += len(token_ids)
            settle([(request, stopped_completion(token_ids))])

    def step(self) -> None:
        self.deliver(self.engine.step())

    def deliver(self, outputs: Sequence[Any]) -> None:
        """Sets the results of the requests that vLLM has finished, and forwards the new tokens of samples to
        their listeners.
        """
        finished: list[Settled] = []
        for output in outputs:
            request = self.pending.get(output.request_id)
            if request is None:
                continue
            if isinstance(request, SampleRequest):
                request.send_tokens(output.outputs[0].token_ids)
            if not output.finished:
                continue
            del self.pending[output.request_id]
            if isinstance(request, ScoreRequest) and not _is_computed(request, output):
                self.add(replace(request, reads_cache=False))
            else:
                finished.append((request, self._result(request, output)))
        settle(finished)

    def _result(
        self, request: SampleRequest | ScoreRequest, output: Any
    ) -> Completion | tuple[float, ...] | InputError:
        """Returns the result of an output, or an InputError, so that an unreadable completion fails only its
        own request.
        """
        try:
            if isinstance(request, ScoreRequest):
                logprobs = output.prompt_logprobs
                first = len(request.prompt_ids)
                return tuple(logprobs.logprobs[i] for i in logprobs.start_indices[first:])
            return self._completion(output.outputs[0])
        except BaseException as error:
            return refusal(error)

    def _completion(self, sample: Any) -> Completion:
        token_ids = tuple(sample.token_ids)
        self._num_ended += 1
        self._num_ended_tokens += len(token_ids)
        answer, thought = self._prompter.read(token_ids)
        return Completion(
            token_ids=token_ids,
            text=answer,
            behaviour_logprobs_T=tuple(sample.logprobs.logprobs[i] for i in sample.logprobs.start_indices),
            finish_reason=FinishReason(sample.finish_reason),
            thought=thought,
        )

    def close(self) -> None:
        engine_core = getattr(self.engine, "engine_core", None)
        if engine_core is not None:
            engine_core.shutdown()
        del self.engine


def _is_computed(request: ScoreRequest, output: Any) -> bool:
    """Returns whether vLLM computed the log-probs of all tokens of the text.

    vLLM skips tokens that its prefix cache holds, for example if an earlier text began alike: their log-probs
    are then uninitialised memory.
    """
    return not request.reads_cache or output.num_cached_tokens < len(request.prompt_ids)


def stopped_completion(token_ids: tuple[int, ...] = ()) -> Completion:
    return Completion(
        token_ids=token_ids, text="", behaviour_logprobs_T=None, finish_reason=FinishReason.STOPPED
    )
