"""Which tokens end a continuation: the same ones as in plain decoding with vLLM."""

from drsft.config import Target
from drsft.policy.prompts import Prompter, model_location

__all__ = ["stop_ids"]


def stop_ids(target: Target, prompter: Prompter) -> frozenset[int]:
    """The end of the turn, the tokenizer's end of text, and what the model's generation_config.json names."""
    from transformers import GenerationConfig

    try:
        named = GenerationConfig.from_pretrained(model_location(target.model)).eos_token_id
    except (OSError, ValueError):  # many folders have none
        named = None
    several = named if isinstance(named, list) else [named]
    return frozenset(
        token
        for token in (prompter.end_of_turn_id, prompter.tokenizer.eos_token_id, *several)
        if token is not None
    )
