"""How much memory an engine on a CPU gives to its cache where the configuration leaves it open."""

from dataclasses import dataclass
from pathlib import Path

from drsft.config import Target
from drsft.errors import ModelError
from drsft.policy.engine_loop import first_line

__all__ = ["ModelSize", "cache_bytes", "cache_bytes_here", "free_memory_bytes", "model_size"]

_MIN_CACHE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    num_parameters: int
    weight_bytes: int
    cache_bytes_per_token: int
    activation_bytes_per_token: int = 0  # at most, in a forward without gradients


def cache_bytes(model: ModelSize, *, free_bytes: int, max_model_len: int, max_num_seqs: int) -> int:
    """What `max_num_seqs` full sequences need, at most a quarter of what the weights leave free.

    Several engines can then start beside each other. Raises ModelError where one full sequence does not fit.
    """
    one_sequence = max_model_len * model.cache_bytes_per_token
    most = (free_bytes - model.weight_bytes) // 4
    size = max(min(one_sequence * max_num_seqs, most), _MIN_CACHE_BYTES)
    if size < one_sequence:
        raise ModelError(
            f"target.max_model_len: the cache of {max_model_len:,} tokens takes {one_sequence >> 20:,} MiB "
            f"and may take {size >> 20:,}; lower it, or set target.engine.kv_cache_mib"
        )
    return size


def model_size(location: str, dtype: str) -> ModelSize:
    """By the model's config.json; the norms and biases are left out."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False).get_text_config()
    except Exception as error:  # transformers raises OSError, ValueError, TypeError and its own errors alike
        raise ModelError(f"target.model {location!r}: config.json: {first_line(error)}") from error
    num_layers, hidden, num_heads = (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
    )
    num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
    head_size = getattr(config, "head_dim", None) or hidden // num_heads
    num_experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or 1
    inner = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", 4 * hidden)
    layer = 2 * hidden * head_size * (num_heads + num_kv_heads) + 3 * hidden * inner * num_experts
    embeddings = config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2)
    num_parameters = embeddings + num_layers * layer
    num_bytes = 4 if dtype == "float32" else 2
    return ModelSize(
        num_parameters=num_parameters,
        weight_bytes=num_parameters * num_bytes,
        cache_bytes_per_token=2 * num_layers * num_kv_heads * head_size * num_bytes,
        # states in and out, queries and their sum; gate, up and their product
        activation_bytes_per_token=(4 * hidden + 3 * inner) * num_bytes,
    )


def cache_bytes_here(target: Target, location: str) -> int:
    """The cache of an engine that this process is about to start."""
    return cache_bytes(
        model_size(location, target.dtype),
        free_bytes=free_memory_bytes(),
        max_model_len=target.max_model_len,
        max_num_seqs=target.engine.max_num_seqs,
    )


def free_memory_bytes() -> int:
    """What this process can still take: of the machine, and of its control group where that has a limit."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    limits = (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
    for limit, usage in limits:
        if (group / limit).exists() and (most := (group / limit).read_text().strip()) != "max":
            free.append(max(int(most) - int((group / usage).read_text()), 0))
    return min(free)
