"""A policy on vLLM: the engine steps in a thread of its own while the cascade runs in an asyncio loop.

The engine lives in this process: a new one for another checkpoint then costs a third of a second instead of a
process start, and a request crosses a thread, not a socket. Written for vLLM 0.32 (V1 engine).
"""

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

from drsft.config import Target
from drsft.errors import InputError, StageError
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Draw
from drsft.policy.vllm.engine import build_engine, sampling_params
from drsft.records import Completion, FinishReason, Sampling

__all__ = ["VLLMPolicy"]

OnTokens = Callable[[int, Sequence[int]], None]  # the sample's index, its new token ids


@dataclass(slots=True)
class _Prompt:
    """What the samples of one draw share; the engine checks and prepares it once."""

    ids: list[int]
    sampling: Sampling
    prepared: Any = None


@dataclass(slots=True)
class _Request:
    """One sample, which the engine takes as a request of its own so that it can be stopped by itself."""

    request_id: str
    index: int  # in its draw
    prompt: _Prompt
    future: asyncio.Future[Completion]
    loop: asyncio.AbstractEventLoop
    on_tokens: OnTokens | None = None
    num_told: int = 0

    @property
    def num_reserved_tokens(self) -> int:
        """Of cache, that it may come to need."""
        return len(self.prompt.ids) + self.prompt.sampling.max_tokens

    def tell(self, token_ids: Sequence[int]) -> None:
        """All that it has so far; its listener hears of what is new."""
        if self.on_tokens is not None and len(token_ids) > self.num_told:
            new_ids, self.num_told = tuple(token_ids[self.num_told :]), len(token_ids)
            with suppress(RuntimeError):  # the loop was closed: nobody listens any more
                self.loop.call_soon_threadsafe(self.on_tokens, self.index, new_ids)


class _Waiter(Protocol):
    """Whoever waits for completions."""

    @property
    def request_id(self) -> str: ...

    @property
    def future(self) -> asyncio.Future[Any]: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...


class VLLMPolicy:
    """Completions of one model; `close()` (or leaving `with`) stops the engine and frees its memory.

    Raises ModelError when the model cannot be loaded; after an engine failure every call is a StageError.
    """

    def __init__(
        self, target: Target, prompter: Prompter, *, engine_options: Mapping[str, Any] | None = None
    ) -> None:
        """`engine_options` go to vLLM as they are, over what the target says."""
        self._prompter = prompter
        self._max_model_len = target.max_model_len
        self._ids = itertools.count()
        self._inbox: queue.SimpleQueue[_Waiter | str | None] = queue.SimpleQueue()
        self._pending: dict[str, _Request] = {}
        self._failure: Exception | None = None
        self._alive_s = time.monotonic()  # when its thread last took something up or ended it
        self.busy_s = 0.0  # seconds spent on steps, so far
        started: Future[None] = Future()
        build = partial(build_engine, target, engine_options or {})
        self._thread = threading.Thread(
            target=self._run, args=(build, started), name="vllm-steps", daemon=True
        )
        self._thread.start()
        started.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        """As every policy; `on_tokens` is called in the caller's loop with what each engine step added."""
        draws = self.draw(prompt_ids, sampling, on_tokens=on_tokens)
        try:
            return list(await asyncio.gather(*(draw.completion for draw in draws)))
        except asyncio.CancelledError:
            for draw in draws:
                draw.stop()
            raise

    def draw(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Draw]:
        if len(prompt_ids) >= self._max_model_len:
            raise InputError(f"prompt of {len(prompt_ids)} tokens leaves no room in {self._max_model_len}")
        loop = asyncio.get_running_loop()
        prompt = _Prompt(list(prompt_ids), sampling)
        draws = []
        for index in range(sampling.num_samples):
            request_id = str(next(self._ids))
            request = _Request(request_id, index, prompt, loop.create_future(), loop, on_tokens)
            self._inbox.put(request)
            draws.append(Draw(request.future, partial(self._inbox.put, request_id)))
        return draws

    @property
    def num_pending(self) -> int:
        """Samples that the engine has and has not finished."""
        return len(self._pending)

    def check(self, *, max_silence_s: float) -> None:
        """Raises StageError when the engine died, or has made no step for so long although it has work."""
        if self._failure is not None or not self._thread.is_alive():
            raise self._death()
        silence_s = time.monotonic() - self._alive_s
        if not self._is_idle() and silence_s > max_silence_s:
            raise StageError(f"the vLLM engine has made no step for {silence_s:.0f} s")

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()
        engine_core = getattr(self._engine, "engine_core", None)
        if engine_core is not None:
            engine_core.shutdown()
        del self._engine

    def _run(self, build: Callable[[], Any], started: Future[None]) -> None:
        """Builds the engine and steps it, both in this thread.

        OpenMP keeps its settings for each thread: on the CPU, steps in another thread than the one that built
        the engine leave a sixth of two cores idle.
        """
        try:
            self._engine = build()
            self._tasks = self._engine.get_supported_tasks()
        except BaseException as error:  # the constructor raises it in the caller's thread
            started.set_exception(error)
            return
        started.set_result(None)
        try:
            while self._take_requests():
                began_s = time.monotonic()
                if not self._is_idle():
                    self._deliver(self._engine.step())
                self._alive_s = time.monotonic()
                self.busy_s += self._alive_s - began_s
        except Exception as error:  # whatever it was, every waiter must hear of it
            self._failure = error
            for request in self._unfinished():
                self._resolve(request, self._death())
            while (message := self._inbox.get()) is not None:
                if not isinstance(message, str):
                    self._resolve(message, self._death())

    def _is_idle(self) -> bool:
        return not self._pending

    def _unfinished(self) -> Iterable[_Waiter]:
        return self._pending.values()

    def _death(self) -> StageError:
        return StageError(f"the vLLM engine died: {self._failure!r}")

    def _take_requests(self) -> bool:
        """Everything in the inbox goes to the engine; waits only while the engine has nothing to do."""
        while True:
            try:
                message = self._inbox.get(block=self._is_idle())
            except queue.Empty:
                return True
            self._alive_s = time.monotonic()  # it may have waited long for this
            match message:
                case None:
                    return False
                case str(request_id):
                    self._cancel(request_id)
                case request:
                    self._add(request)

    def _cancel(self, request_id: str) -> None:
        """Ends a sample with the tokens that it has, unless it is done already."""
        request = self._pending.pop(request_id, None)
        if request is not None:
            state = self._engine.output_processor.request_states[request_id]
            token_ids = tuple(state.detokenizer.output_token_ids)
            self._engine.abort_request([request_id], internal=True)
            self._resolve(request, _stopped(token_ids))

    def _add(self, request: Any) -> None:
        """Hands a request to the engine, or refuses it.

        This is what LLMEngine.add_request does for the samples of n > 1, without the parent that holds all of
        them back until the last one is done.
        """
        prompt = request.prompt
        try:
            prompt.prepared = prompt.prepared or self._prepare(prompt, is_streamed=bool(request.on_tokens))
        except ValueError as error:
            self._resolve(request, InputError(f"the engine refused a request: {error}"))
            return
        one = copy(prompt.prepared)
        one.request_id = one.external_req_id = request.request_id
        one.sampling_params = copy(one.sampling_params)
        one.sampling_params.seed = prompt.sampling.seed + request.index
        self._engine.output_processor.add_request(one, None, None, 0)
        self._engine.engine_core.add_request(one)
        self._pending[request.request_id] = request

    def _prepare(self, prompt: _Prompt, *, is_streamed: bool) -> Any:
        sampling = replace(prompt.sampling, num_samples=1)
        params = sampling_params(sampling, self._prompter.end_of_turn_id, is_streamed=is_streamed)
        return self._engine.input_processor.process_inputs(
            "", {"prompt_token_ids": prompt.ids}, params, self._tasks
        )

    def _deliver(self, outputs: Sequence[Any]) -> None:
        """What finished in a step crosses to its event loop together: waking one costs the engine time."""
        finished: dict[asyncio.AbstractEventLoop, list[Settled]] = {}
        for output in outputs:
            request = self._pending.get(output.request_id)
            if request is None:
                continue
            (sample,) = output.outputs
            request.tell(sample.token_ids)
            if output.finished:
                del self._pending[output.request_id]
                finished.setdefault(request.loop, []).append((request.future, self._completion(sample)))
        for loop, settled in finished.items():
            _settle(loop, settled)

    def _completion(self, sample: Any) -> Completion:
        token_ids = tuple(sample.token_ids)
        return Completion(
            token_ids=token_ids,
            text=self._prompter.decode(token_ids),
            behaviour_logprobs_T=tuple(sample.logprobs.logprobs[i] for i in sample.logprobs.start_indices),
            finish_reason=FinishReason(sample.finish_reason),
        )

    @staticmethod
    def _resolve(request: _Waiter, result: Completion | list[Completion] | Exception) -> None:
        _settle(request.loop, [(request.future, result)])


def _stopped(token_ids: tuple[int, ...] = ()) -> Completion:
    return Completion(
        token_ids=token_ids, text="", behaviour_logprobs_T=None, finish_reason=FinishReason.STOPPED
    )


Settled = tuple[asyncio.Future[Any], Completion | list[Completion] | Exception]


def _settle(loop: asyncio.AbstractEventLoop, settled: list[Settled]) -> None:
    def settle() -> None:
        for future, result in settled:
            if future.done():  # cancelled meanwhile
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
