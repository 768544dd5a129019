"""Starts a vLLM engine and builds its requests. It is written for vLLM 0.32 (V1 engine)."""

import ctypes
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from drsft.config import Target
from drsft.errors import ConfigError, ModelError, UserError
from drsft.policy.cache_size import cache_bytes_here
from drsft.policy.prompts import model_location
from drsft.policy.vllm.messages import told_by_key
from drsft.policy.vllm.options import check_here, refused_options
from drsft.policy.vllm.start_phases import EnginePhase, OnPhase, weights_read
from drsft.process.collector import collector_paused
from drsft.records import Sampling

__all__ = [
    "build_engine",
    "engine_arguments",
    "never_sample",
    "sampling_params",
    "scoring_params",
    "set_environment",
]

CPU_BLOCK_TOKENS = 32  # of the cache
# In this process and not bound to a core: the default binding puts every engine on core 0.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES = 1 << 30


def sampling_params(sampling: Sampling, end_token_ids: Sequence[int], *, is_streamed: bool = False) -> Any:
    """Returns vLLM's SamplingParams for `sampling`.

    Sampling stops at `end_token_ids` alone: another token that the model's files name as an end may close a
    thought.
    """
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
        ignore_eos=True,
        stop_token_ids=list(end_token_ids),
        output_kind=RequestOutputKind.CUMULATIVE if is_streamed else RequestOutputKind.FINAL_ONLY,
    )


def scoring_params(*, reads_cache: bool) -> Any:
    """Returns vLLM's SamplingParams for a request that computes the log-probs of a prompt's own tokens.

    By default vLLM does not read such a prompt's beginning from its prefix cache, as log-probs are not
    computed there. With `reads_cache` it does: the missing ones belong to the question and are not needed,
    unless the cache holds more than the question.
    """
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,  # the least that vLLM takes
        prompt_logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        skip_reading_prefix_cache=not reads_cache,
    )


def set_environment() -> None:
    """Sets vLLM's environment variables, except those that are set already.

    Call it before torch and vLLM are first imported.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _ENVIRONMENT.items()})
    if "torch" not in sys.modules:
        # One thread: two were eight times slower for a small model. OpenMP reads it when torch is loaded;
        # after that, another number would only make vLLM's kernels disagree with each other and stop.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def engine_arguments(target: Target) -> dict[str, Any]:
    """Returns the arguments for vLLM's engine that follow from the target, without model and options; sets
    vLLM's environment variables first.
    """
    set_environment()
    with collector_paused():
        import torch

    arguments: dict[str, Any] = {
        "dtype": target.dtype,
        "max_model_len": target.max_model_len,
        "max_num_seqs": target.engine.max_num_seqs,
        "gpu_memory_utilization": target.engine.gpu_memory_utilization,
        "tensor_parallel_size": target.engine.tensor_parallel_size,
        "enforce_eager": target.engine.enforce_eager,
        "logprobs_mode": "processed_logprobs",  # after temperature: the behaviour's own probabilities
        "load_format": "safetensors",  # never a pickle
        "trust_remote_code": False,
        "seed": 0,
        "disable_log_stats": True,
    }
    if target.engine.kv_cache_mib is not None:
        arguments["kv_cache_memory_bytes"] = target.engine.kv_cache_mib << 20
    elif not torch.cuda.is_available():  # vLLM would take gpu_memory_utilization of the machine's memory
        arguments["kv_cache_memory_bytes"] = cache_bytes_here(target, model_location(target.model))
    if not torch.cuda.is_available():
        if target.engine.enforce_eager:
            # The CPU build compiles its sampler even then: 14 s at the first request.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        # A seeded request under chunked prefill ends the CPU build ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
        # vLLM's own choice on a CPU is 128 tokens, and a prefix is shared in whole blocks: the samples of a
        # prompt that is shorter than that would each read it again. The CPU's kernels want a multiple of 32.
        arguments["block_size"] = CPU_BLOCK_TOKENS
        arguments["max_num_batched_tokens"] = max(4096, target.max_model_len)
    return arguments


def build_engine(target: Target, options: Mapping[str, Any], *, on_phase: OnPhase) -> Any:
    """Starts an engine and returns it; `options` are passed to vLLM and override the target's.

    Raises ConfigError if vLLM rejects one of the target's options, and ModelError if the engine cannot start.
    """
    arguments = {"model": model_location(target.model), **engine_arguments(target)}
    check_here(target.engine.options)
    try:
        with collector_paused():
            import torch
            from vllm import EngineArgs
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.llm_engine import LLMEngine

        _keep_freed_memory()
        if not torch.cuda.is_available():
            _count_no_ranks()
        engine_args = EngineArgs(**{**arguments, **target.engine.options, **options})
        with _phases_told(target, on_phase):
            # An unknown context gets steps of 2,048 tokens on any GPU.
            engine = LLMEngine.from_engine_args(engine_args, usage_context=UsageContext.LLM_CLASS)
            _warm_up(engine)
    except Exception as error:  # OSError, RuntimeError, pydantic's, VLLMError: vLLM names no common base
        raise _told_failure(target, arguments, error) from error
    return engine


def _count_no_ranks() -> None:
    """Stops vLLM from computing the rank of each token whose log-prob is requested; drsft does not read it.

    vLLM 0.32 compares it with the whole vocabulary. On a CPU that was 82 of some 500 samples of a profile of
    the real model's grounding check (vocabulary 49,152).
    """
    from vllm.v1.sample import sampler

    sampler.batched_count_greater_than = _no_ranks


def _no_ranks(logprobs: Any, token_logprobs: Any) -> Any:
    """Returns zeros instead of ranks. Shapes: (N, V), (N, 1) -> (N,)."""
    import torch

    return torch.zeros(len(token_logprobs), dtype=torch.int64)


def _phases_told(target: Target, on_phase: OnPhase) -> AbstractContextManager[None]:
    engine = target.engine
    if engine.tensor_parallel_size > 1 or engine.options.get("pipeline_parallel_size", 1) != 1:
        on_phase(EnginePhase.STARTING)
        return nullcontext()
    on_phase(EnginePhase.READING)
    behind = EnginePhase.WARMING_UP if engine.enforce_eager else EnginePhase.COMPILING
    return weights_read(partial(on_phase, behind))


def _told_failure(target: Target, arguments: Mapping[str, Any], error: Exception) -> UserError:
    given = target.engine.options
    if given and (refusal := refused_options(target, arguments)) is not None:
        return ConfigError(refusal)
    with_options = f" and target.engine.options ({', '.join(given)})" if given else ""
    reason = told_by_key(error)
    return ModelError(f"target.model {target.model!r}: vLLM cannot start with it{with_options}: {reason}")


def never_sample(engine: Any, token_ids: Sequence[int]) -> None:
    """Gives these ids probability 0 in everything that is sampled from now on.

    It changes the model's logits. The alternative `allowed_token_ids` would have to list the rest of the
    vocabulary in every request, and vLLM's newer model runner takes no more than 1,024 of them.
    """
    if token_ids:
        engine.apply_model(partial(_mask_logits, tuple(token_ids)))


def _mask_logits(token_ids: tuple[int, ...], model: Any) -> None:
    """Masks the ids in one worker; vLLM calls it in each of them, which may be other processes."""
    import torch

    compute_logits = model.compute_logits
    ids = torch.tensor(token_ids)

    def masked(*arguments: Any, **options: Any) -> Any:
        nonlocal ids
        logits_BV = compute_logits(*arguments, **options)
        if logits_BV is None:  # of a worker that did not get the others' parts
            return None
        ids = ids.to(logits_BV.device)
        return logits_BV.index_fill_(-1, ids, -torch.inf)

    model.compute_logits = masked


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step, on the CPU only.

    Activations are freed and allocated again at every step. glibc returns large blocks at once, and the page
    faults of allocating them again were a tenth of the CPU time of a model with 28M parameters. Other C
    libraries are left unchanged.
    """
    import torch

    if torch.cuda.is_available() or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        libc.mallopt(parameter, _KEPT_BYTES)


def _warm_up(engine: Any) -> None:
    """Sends a first request, so that the engine's late initialisation does not delay a user's sample."""
    request = Sampling(num_samples=1, temperature=1.0, max_tokens=2, seed=0)
    engine.add_request("warm-up", {"prompt_token_ids": [0]}, sampling_params(request, [0]))
    while engine.has_unfinished_requests():
        engine.step()
