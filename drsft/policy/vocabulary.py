"""Which ids of a model's vocabulary no text has: rows that pad the embedding beyond the tokenizer."""

from typing import Any

__all__ = ["ids_without_text"]


def ids_without_text(tokenizer: Any, num_embeddings: int) -> tuple[int, ...]:
    """Ids below `num_embeddings` that the tokenizer has no token for, in order.

    Their embeddings were never trained. A sampled one would stand in a completion's ids and not in its text.
    """
    listed = set(tokenizer.get_vocab().values())
    return tuple(
        token_id
        for token_id in range(num_embeddings)
        if token_id not in listed and not _has_token(tokenizer, token_id)
    )


def _has_token(tokenizer: Any, token_id: int) -> bool:
    """Asks for an id by itself: a vocabulary by token lists one id only where two have the same token."""
    try:
        token = tokenizer.convert_ids_to_tokens(token_id)
    except (IndexError, KeyError, ValueError):  # tokenizers in Python raise each of these
        return False
    return token is not None and token != tokenizer.unk_token
