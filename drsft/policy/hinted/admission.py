"""Decides when a pair, which is the two prompts of one problem, may enter a vLLM engine, so that its two rows
start and stay in the same steps.
"""

from typing import Any, Protocol

from drsft.policy.hinted.paired_rows import HINTED, PLAIN, Pair, PairStatus

__all__ = ["Admission", "AdmitAtOnce", "AdmitInStep"]


class Admission(Protocol):
    def admits(self, pair: Pair, engine: Any, num_reserved_tokens: int, num_entered_tokens: int) -> bool:
        """Returns whether the pair may enter in the next step.

        The requests in the engine may need up to `num_reserved_tokens` of the KV cache. Pairs that were
        admitted to the same step before have `num_entered_tokens` prompt tokens.
        """
        ...


class AdmitAtOnce:
    """Admits every pair at once. The rows of a pair may then start in different steps, so that the pair has
    to be decoded again. For tests and measurements.
    """

    def admits(self, pair: Pair, engine: Any, num_reserved_tokens: int, num_entered_tokens: int) -> bool:
        return True


class AdmitInStep:
    """Admits a pair once the engine has two free sequences, room for both prompts in one step, and KV cache
    for the longest continuation.

    A pair that has to be decoded separately needs the cache only.
    """

    def admits(self, pair: Pair, engine: Any, num_reserved_tokens: int, num_entered_tokens: int) -> bool:
        has_cache = num_reserved_tokens + pair.num_reserved_tokens <= _cache_tokens(engine)
        if must_separate(pair, engine):
            return has_cache
        num_sequences = engine.get_num_unfinished_requests()
        scheduler = engine.vllm_config.scheduler_config
        has_sequences = num_sequences + 2 <= scheduler.max_num_seqs
        num_tokens = num_sequences + num_entered_tokens + _num_prompt_tokens(pair)
        return bool(has_sequences and num_tokens <= scheduler.max_num_batched_tokens and has_cache)


def must_separate(pair: Pair, engine: Any) -> bool:
    """Returns whether each context of a pair has to be asked for its logits in a request of its own.

    This is so if the pair's prompts exceed what a step can take, if it fell out of step twice in a row
    without a new token in between, or if it is decoded separately already.
    """
    scheduler = engine.vllm_config.scheduler_config
    is_too_long = scheduler.max_num_seqs < 2 or _num_prompt_tokens(pair) > scheduler.max_num_batched_tokens
    return bool(pair.status is PairStatus.SEPARATE or pair.num_stalls > 1 or is_too_long)


def _num_prompt_tokens(pair: Pair) -> int:
    return len(pair.prompt(HINTED)) + len(pair.prompt(PLAIN))


def _cache_tokens(engine: Any) -> int:
    cache = engine.vllm_config.cache_config
    return int(cache.kv_cache_size_tokens or cache.num_gpu_blocks * cache.block_size)
