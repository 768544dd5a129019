"""Finds the ids of a model's vocabulary that stand for no text: rows that pad the embedding beyond the
tokenizer.
"""

from typing import Any

__all__ = ["ids_without_text"]


def ids_without_text(tokenizer: Any, num_embeddings: int) -> tuple[int, ...]:
    """Returns the ids below `num_embeddings` for which the tokenizer has no token, in order.

    Their embeddings were never trained. A sampled one would be in a completion's ids but not in its text.
    """
    listed = set(tokenizer.get_vocab().values())
    return tuple(
        token_id
        for token_id in range(num_embeddings)
        if token_id not in listed and not _has_token(tokenizer, token_id)
    )


def _has_token(tokenizer: Any, token_id: int) -> bool:
    """Returns whether the tokenizer has a token for one id.

    The vocabulary as a mapping from token to id would miss ids that share a token with another id.
    """
    try:
        token = tokenizer.convert_ids_to_tokens(token_id)
    except (IndexError, KeyError, ValueError):  # tokenizers in Python raise each of these
        return False
    return token is not None and token != tokenizer.unk_token
