"""Reads a model's size from its own files: parameters, positions, values in the KV cache per token."""

from dataclasses import dataclass

from drsft.errors import ModelError
from drsft.policy.cache_size import shape_of
from drsft.policy.prompts import check_location, model_location

__all__ = ["ModelFacts", "read_model_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    num_parameters: int
    num_positions: int | None  # None: the files name no limit
    cache_values_per_token: int  # keys and values of all layers


def read_model_facts(model: str) -> ModelFacts:
    """Returns a model's number of parameters, number of positions and cache size.

    They are taken from the model built without its weights. Raises ModelError if it is not found, or
    transformers cannot build it.
    """
    location = model_location(model)
    check_location(location)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and its own errors alike
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(
            f"--model {model!r}: {reason}; give a folder with a causal language model, or its hub name"
        ) from error
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    return ModelFacts(
        num_parameters=sum(one.numel() for one in built.parameters()),
        num_positions=positions if isinstance(positions, int) else None,
        cache_values_per_token=shape_of(text).cache_values_per_token,
    )
