"""Finds the text that each token of a completion adds, for heat maps."""

from collections.abc import Callable, Sequence

__all__ = ["token_texts"]

INCOMPLETE = "\ufffd"  # the tokenizer's output for an incomplete character
MAX_JOINED = 8


def token_texts(token_ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[str]:
    """Returns one text for each token; joined they are the completion with its special tokens.

    If several tokens spell one character, it belongs to the last of them; the others get an empty text.
    `decode` must keep special tokens and change nothing.
    """
    texts: list[str] = []
    start = 0
    for end in range(1, len(token_ids) + 1):
        text = decode(list(token_ids[start:end]))
        is_open = text.endswith(INCOMPLETE) and end - start < MAX_JOINED and end < len(token_ids)
        texts.append("" if is_open else text)
        start = start if is_open else end
    return texts
