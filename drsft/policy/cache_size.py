"""Decides how much memory an engine on a CPU gives to its KV cache if the configuration does not say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drsft.config import Target
from drsft.errors import ModelError
from drsft.policy.engine_loop import first_line

__all__ = [
    "ModelShape",
    "ModelSize",
    "cache_bytes",
    "cache_bytes_here",
    "free_memory_bytes",
    "model_shape",
    "model_size",
    "shape_of",
]

_MIN_CACHE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    num_parameters: int
    weight_bytes: int
    cache_bytes_per_token: int
    activation_bytes_per_token: int = 0  # at most, in a forward without gradients


def cache_bytes(model: ModelSize, *, free_bytes: int, max_model_len: int, max_num_seqs: int) -> int:
    """Returns the size of an engine's KV cache in bytes: room for `max_num_seqs` sequences of `max_model_len`
    tokens, but at most a quarter of the memory that is left beside the weights.

    The limit lets several engines run on one machine. The size is at least 16 MiB. Raises ModelError if it is
    less than one full sequence needs.
    """
    one_sequence = max_model_len * model.cache_bytes_per_token
    most = (free_bytes - model.weight_bytes) // 4
    size = max(min(one_sequence * max_num_seqs, most), _MIN_CACHE_BYTES)
    if size < one_sequence:
        raise ModelError(
            f"target.max_model_len: the KV cache of one sequence of {max_model_len:,} tokens needs "
            f"{one_sequence >> 20:,} MiB, but only {size >> 20:,} MiB are available for it; lower "
            "target.max_model_len, or set target.engine.kv_cache_mib"
        )
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The dimensions of a decoder's weight matrices, without norms and biases."""

    num_layers: int
    hidden_size: int
    inner_size: int  # of a layer's gate and up projections
    query_size: int  # of all heads together
    key_size: int  # likewise, and as large again for values
    vocab_size: int
    num_experts: int
    is_tied: bool

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size * (1 if self.is_tied else 2)

    @property
    def layer_parameters(self) -> int:
        attention = 2 * self.hidden_size * (self.query_size + self.key_size)
        return attention + 3 * self.hidden_size * self.inner_size * self.num_experts

    @property
    def num_parameters(self) -> int:
        return self.embedding_parameters + self.num_layers * self.layer_parameters

    @property
    def cache_values_per_token(self) -> int:
        """The number of cached values per token: keys and values of all layers."""
        return 2 * self.num_layers * self.key_size

    def size(self, dtype: str) -> ModelSize:
        num_bytes = 4 if dtype == "float32" else 2
        return ModelSize(
            num_parameters=self.num_parameters,
            weight_bytes=self.num_parameters * num_bytes,
            cache_bytes_per_token=self.cache_values_per_token * num_bytes,
            # states in and out, queries and their sum; gate, up and their product
            activation_bytes_per_token=(4 * self.hidden_size + 3 * self.inner_size) * num_bytes,
        )


def model_shape(location: str) -> ModelShape:
    """Reads a model's dimensions from its config.json. Raises ModelError if it cannot be read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False).get_text_config()
    except Exception as error:  # transformers raises OSError, ValueError, TypeError and its own errors alike
        raise ModelError(
            f"target.model {location!r}: its config.json cannot be read: {first_line(error)}"
        ) from error
    return shape_of(config)


def shape_of(config: Any) -> ModelShape:
    """Returns a model's dimensions, given its text configuration as transformers loads it."""
    hidden, num_heads = config.hidden_size, config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or hidden // num_heads
    num_experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or 1
    inner = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", 4 * hidden)
    return ModelShape(
        num_layers=config.num_hidden_layers,
        hidden_size=hidden,
        inner_size=inner,
        query_size=num_heads * head_size,
        key_size=(getattr(config, "num_key_value_heads", None) or num_heads) * head_size,
        vocab_size=config.vocab_size,
        num_experts=num_experts,
        is_tied=bool(config.tie_word_embeddings),
    )


def model_size(location: str, dtype: str) -> ModelSize:
    """Computes from a model's config.json its number of parameters, and the bytes of its weights and, per
    token, of its KV cache and activations. Raises ModelError if the file cannot be read.
    """
    return model_shape(location).size(dtype)


def cache_bytes_here(target: Target, location: str) -> int:
    """Returns the KV cache size in bytes, for the memory that is free now, of an engine that this process is
    about to start. Raises ModelError as `cache_bytes` and `model_size` do.
    """
    return cache_bytes(
        model_size(location, target.dtype),
        free_bytes=free_memory_bytes(),
        max_model_len=target.max_model_len,
        max_num_seqs=target.engine.max_num_seqs,
    )


def free_memory_bytes() -> int:
    """Returns how many bytes of memory this process can still use: the least of what the machine has
    available and what the process's control groups leave.
    """
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
