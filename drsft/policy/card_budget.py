"""Divides the memory of an actor's GPU between its engine and the other models on that GPU.

`target.engine.gpu_memory_utilization` is the share of a GPU's memory that one actor may use. A second copy of
the weights (for the scorer, or for the torch engine of Hinted Decoding) is subtracted from it; vLLM gets the
rest.
"""

from collections.abc import Mapping

from drsft.config import Rewrite, Target
from drsft.errors import ConfigError
from drsft.policy.cache_size import ModelSize, model_size
from drsft.policy.engine_layout import num_devices
from drsft.policy.prompts import model_location
from drsft.process.collector import collector_paused

__all__ = [
    "beside_engine",
    "check_cards",
    "check_shares",
    "engine_share",
    "engine_wants",
    "smallest_card_bytes",
]

GIB = 1 << 30
PROCESS_BYTES = GIB  # CUDA's context, its kernels and the allocator's rest
SCORING_TOKENS = 16_384  # of a batch of drsft/gap/scoring.py
STEP_TOKENS = 16_384  # of vLLM on large cards
SMALLER = frozenset(
    {"quantization", "cpu_offload_gb"}
)  # of target.engine.options, whose effect only vLLM knows
UTILISATION = "target.engine.gpu_memory_utilization"
TORCH_ENGINE = "rewrite.hinted.engine: torch"


def check_shares(target: Target, gpus_per_actor: float | None) -> None:
    """Raises ConfigError if an engine's settings ask for a larger share of a GPU, or for another number of
    GPUs, than `gpus_per_actor` gives an actor.

    The check needs no GPU. It does nothing if `gpus_per_actor` is None.
    """
    if gpus_per_actor is None:
        return
    engine = target.engine
    if 0 < gpus_per_actor < 1 and engine.gpu_memory_utilization > gpus_per_actor:
        raise ConfigError(
            f"{UTILISATION}: {engine.gpu_memory_utilization:g} is more than the share of a GPU that "
            f"resources.gpus_per_actor gives an actor ({gpus_per_actor:g}); set at most {gpus_per_actor:g}"
        )
    needed, given = num_devices(engine), gpus_per_actor
    if given and (needed > max(given, 1) or (given > 1 and needed != given)):
        raise ConfigError(
            f"target.engine.tensor_parallel_size: an engine needs {needed} GPUs, but "
            f"resources.gpus_per_actor gives an actor {given:g}; set both to the same number"
        )


def check_cards(target: Target, rewrite: Rewrite, gpus_per_actor: float | None) -> None:
    """Raises ConfigError as `check_shares` does, or if an actor's models do not fit into its share of the
    smallest GPU of this machine.

    Without a GPU here, the memory is not checked. Each actor checks again before it loads anything, since it
    may run on another machine.
    """
    check_shares(target, gpus_per_actor)
    if gpus_per_actor != 0 and (card_bytes := smallest_card_bytes()) is not None:
        size = model_size(model_location(target.model), target.dtype)
        beside = beside_engine(target, rewrite, size)
        engine_share(target, size, beside=beside, card_bytes=card_bytes)


@collector_paused()
def smallest_card_bytes() -> int | None:
    """Returns the total memory, in bytes, of the smallest GPU that this process may use; None without
    a GPU.
    """
    import torch  # imported here, since whatever loads torch first sets its thread count

    cards = range(torch.cuda.device_count())
    return min((torch.cuda.get_device_properties(card).total_memory for card in cards), default=None)


def beside_engine(target: Target, rewrite: Rewrite, size: ModelSize) -> Mapping[str, int]:
    """Returns the bytes that other models than the engine need on the engine's first GPU. The keys are the
    settings that need them, such as "rewrite.selection: closest"; {} if no setting does.
    """
    found = {}
    if rewrite.selection == "closest":
        work = SCORING_TOKENS * size.activation_bytes_per_token
        found["rewrite.selection: closest"] = size.weight_bytes + work
    if rewrite.is_hinted and rewrite.hinted.engine == "torch":
        cache = target.engine.max_num_seqs * target.max_model_len * size.cache_bytes_per_token
        found[TORCH_ENGINE] = size.weight_bytes + cache
    return found


def engine_wants(target: Target, size: ModelSize) -> int:
    """Returns the least memory, in bytes of each of its GPUs, with which an engine can start.

    It is the sum of the process, the weights, the KV cache (as configured, else for one full sequence) and
    the activations of one step.
    """
    cache = target.max_model_len * size.cache_bytes_per_token
    if target.engine.kv_cache_mib is not None:
        cache = target.engine.kv_cache_mib << 20
    step = STEP_TOKENS * size.activation_bytes_per_token
    return PROCESS_BYTES + (size.weight_bytes + cache + step) // num_devices(target.engine)


def engine_share(target: Target, size: ModelSize, *, beside: Mapping[str, int], card_bytes: int) -> float:
    """Returns the `gpu_memory_utilization` that vLLM gets on a GPU of `card_bytes`: the configured share less
    the bytes in `beside`, which other models need.

    Raises ConfigError if that is too little for the engine to start.
    """
    given = target.engine.gpu_memory_utilization
    budget, wanted = int(given * card_bytes), engine_wants(target, size)
    is_smaller = not SMALLER.isdisjoint(target.engine.options)
    if budget - sum(beside.values()) >= (0 if is_smaller else wanted):
        return given - sum(beside.values()) / card_bytes
    taken = "".join(f", of which {key} takes {_gib(num_bytes)}" for key, num_bytes in beside.items())
    needed = f"{'at most ' if is_smaller else ''}{_gib(wanted)}"
    raise ConfigError(
        f"{[*beside, UTILISATION][0]}: the engine needs {needed} of a GPU with {_gib(card_bytes)}, but "
        f"{UTILISATION} = {given:g} allows {_gib(budget)}{taken}; {_remedy(target, beside, is_smaller)}"
    )


def _remedy(target: Target, beside: Mapping[str, int], is_smaller: bool) -> str:
    """Returns which settings to change. With `is_smaller`, what is too large is in `beside`, whatever the
    engine needs.
    """
    has_torch_cache, has_own_cache = TORCH_ENGINE in beside, target.engine.kv_cache_mib is not None
    too_large = {
        "target.engine.max_num_seqs": has_torch_cache,
        "target.max_model_len": has_torch_cache or not (has_own_cache or is_smaller),
        "target.engine.kv_cache_mib": has_own_cache and not is_smaller,
    }
    remedies = [f"raise {UTILISATION}"]
    if lowered := [key for key, counts in too_large.items() if counts]:
        remedies.append(f"lower {' or '.join(lowered)}")
    if not is_smaller:
        remedies.append("raise target.engine.tensor_parallel_size")
    return ", or ".join(remedies)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.1f} GiB"
