"""A policy on vLLM: the engine steps in a thread of its own while the cascade runs in an asyncio loop.

The engine lives in this process: a new one for another checkpoint then costs a third of a second instead of a
process start, and a request crosses a thread, not a socket. Written for vLLM 0.32 (V1 engine).
"""

import asyncio
import itertools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from drsft.config import Target
from drsft.errors import InputError, ModelError, StageError
from drsft.policy.prompts import Prompter, model_location
from drsft.records import Completion, Sampling

__all__ = ["VLLMPolicy", "engine_arguments", "sampling_params"]

# In one process with us, and free to run anywhere: the default binding puts every engine on core 0.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


OnTokens = Callable[[int, Sequence[int]], None]  # the sample's index, its new token ids


@dataclass(frozen=True, slots=True)
class _Stream:
    """Tells a listener of tokens as they come; keeps the samples that are done."""

    on_tokens: OnTokens
    done: dict[int, Any] = field(default_factory=dict)
    num_told: dict[int, int] = field(default_factory=dict)

    def take(self, samples: Sequence[Any], loop: asyncio.AbstractEventLoop) -> None:
        for sample in samples:
            new_ids = tuple(sample.token_ids[self.num_told.get(sample.index, 0) :])
            self.num_told[sample.index] = len(sample.token_ids)
            with suppress(RuntimeError):  # the loop was closed: nobody listens any more
                loop.call_soon_threadsafe(self.on_tokens, sample.index, new_ids)
            if sample.finish_reason is not None:
                self.done[sample.index] = sample


@dataclass(frozen=True, slots=True)
class _Request:
    request_id: str
    prompt_ids: list[int]
    params: Any
    future: asyncio.Future[list[Completion]]
    loop: asyncio.AbstractEventLoop
    stream: _Stream | None


class _Waiter(Protocol):
    """Whoever waits for completions."""

    @property
    def request_id(self) -> str: ...

    @property
    def future(self) -> asyncio.Future[list[Completion]]: ...

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
        self._internal_ids: dict[str, str] = {}
        self._failure: Exception | None = None
        self._stepped_s = time.monotonic()
        self._engine = _build_engine(target, engine_options or {})
        self._thread = threading.Thread(target=self._run, name="vllm-steps", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        """As every policy; `on_tokens` is called in the caller's loop with what each engine step added."""
        if len(prompt_ids) >= self._max_model_len:
            raise InputError(f"prompt of {len(prompt_ids)} tokens leaves no room in {self._max_model_len}")
        loop = asyncio.get_running_loop()
        request_id = str(next(self._ids))
        params = sampling_params(sampling, self._prompter.end_of_turn_id, is_streamed=on_tokens is not None)
        stream = None if on_tokens is None else _Stream(on_tokens)
        request = _Request(request_id, list(prompt_ids), params, loop.create_future(), loop, stream)
        self._inbox.put(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._inbox.put(request_id)
            raise

    @property
    def num_pending(self) -> int:
        """Requests that the engine has and has not answered."""
        return len(self._pending)

    def check(self, *, max_silence_s: float) -> None:
        """Raises StageError when the engine died, or has made no step for so long although it has work."""
        if self._failure is not None or not self._thread.is_alive():
            raise self._death()
        silence_s = time.monotonic() - self._stepped_s
        if not self._is_idle() and silence_s > max_silence_s:
            raise StageError(f"the vLLM engine has made no step for {silence_s:.0f} s")

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()
        engine_core = getattr(self._engine, "engine_core", None)
        if engine_core is not None:
            engine_core.shutdown()
        del self._engine

    def _run(self) -> None:
        try:
            while self._take_requests():
                if not self._is_idle():
                    self._deliver(self._engine.step())
                self._stepped_s = time.monotonic()
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
            match message:
                case None:
                    return False
                case str(request_id):
                    self._cancel(request_id)
                case request:
                    self._add(request)

    def _cancel(self, request_id: str) -> None:
        if self._pending.pop(request_id, None):
            self._engine.abort_request([self._internal_ids.pop(request_id)], internal=True)

    def _add(self, request: Any) -> None:
        """Hands a request to the engine, or refuses it."""
        prompt = {"prompt_token_ids": request.prompt_ids}
        try:
            internal_id = self._engine.add_request(request.request_id, prompt, request.params)
        except ValueError as error:
            self._resolve(request, InputError(f"the engine refused a request: {error}"))
            return
        self._pending[request.request_id] = request
        self._internal_ids[request.request_id] = internal_id

    def _deliver(self, outputs: Sequence[Any]) -> None:
        """What finished in a step crosses to its event loop together: waking one costs the engine time."""
        finished: dict[asyncio.AbstractEventLoop, list[Settled]] = {}
        for output in outputs:
            request = self._pending.get(output.request_id)
            if request is None:
                continue
            samples = output.outputs
            if request.stream is not None:
                request.stream.take(samples, request.loop)
                samples = [sample for _, sample in sorted(request.stream.done.items())]
            if output.finished:
                del self._pending[output.request_id], self._internal_ids[output.request_id]
                completions = [self._completion(sample) for sample in samples]
                finished.setdefault(request.loop, []).append((request.future, completions))
        for loop, settled in finished.items():
            _settle(loop, settled)

    def _completion(self, sample: Any) -> Completion:
        token_ids = tuple(sample.token_ids)
        return Completion(
            token_ids=token_ids,
            text=self._prompter.decode(token_ids),
            behaviour_logprobs_T=tuple(sample.logprobs.logprobs[i] for i in sample.logprobs.start_indices),
            finish_reason=sample.finish_reason,
        )

    @staticmethod
    def _resolve(request: _Waiter, result: list[Completion] | Exception) -> None:
        _settle(request.loop, [(request.future, result)])


Settled = tuple[asyncio.Future[list[Completion]], list[Completion] | Exception]


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


def sampling_params(sampling: Sampling, end_of_turn_id: int, *, is_streamed: bool = False) -> Any:
    """The same request in vLLM's terms."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=sampling.num_samples,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,  # sample i of the request is drawn with seed + i
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        detokenize=False,  # once at the end is cheaper than at every token
        stop_token_ids=[end_of_turn_id],
        output_kind=RequestOutputKind.CUMULATIVE if is_streamed else RequestOutputKind.FINAL_ONLY,
    )


def engine_arguments(target: Target) -> dict[str, Any]:
    """What the engine is started with; sets the environment that must stand before vLLM's import."""
    os.environ.update({key: os.environ.get(key, value) for key, value in _ENVIRONMENT.items()})
    if "torch" not in sys.modules:
        # One thread: two were eight times slower for a small model. OpenMP reads it when torch is loaded;
        # after that, another number would only make vLLM's kernels disagree with each other and stop.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    arguments: dict[str, Any] = {
        "dtype": target.dtype,
        "max_model_len": target.max_model_len,
        "max_num_seqs": target.engine.max_num_seqs,
        "gpu_memory_utilization": target.engine.gpu_memory_utilization,
        "tensor_parallel_size": target.engine.tensor_parallel_size,
        "enforce_eager": target.engine.enforce_eager,
        "logprobs_mode": "processed_logprobs",  # after temperature: the behaviour's own probabilities
        "seed": 0,
        "disable_log_stats": True,
    }
    if target.engine.kv_cache_mib is not None:
        arguments["kv_cache_memory_bytes"] = target.engine.kv_cache_mib << 20
    if not torch.cuda.is_available():
        if target.engine.enforce_eager:
            # The CPU build compiles its sampler even then: 14 s at the first request.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        # A seeded request under chunked prefill ends the CPU build ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(4096, target.max_model_len)
    return arguments


def _build_engine(target: Target, options: Mapping[str, Any]) -> Any:
    arguments = {**engine_arguments(target), **options}
    from vllm import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        return LLMEngine.from_engine_args(EngineArgs(model=model_location(target.model), **arguments))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelError(f"target.model {target.model!r}: vLLM cannot start with it: {reason}") from error
