"""Decodes tokens to text piece by piece, as they arrive."""

from collections.abc import Callable, Sequence

__all__ = ["TextStream"]

REPLACEMENT = "\ufffd"  # what decoders return for bytes that are no character, or not a whole one yet
NUM_CONTEXT_TOKENS = 8  # decoded again with each piece: some tokenizers decode a text's first token otherwise
MAX_CHARACTER_BYTES = 4


class TextStream:
    """Decodes tokens that arrive a few at a time; all pieces joined are the text of all tokens.

    The cost of a piece depends on its own length and not on that of the text before it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []  # the last tokens whose text was returned
        self._context_text = ""
        self._pending: list[int] = []  # tokens whose text was not returned yet

    def add(self, token_ids: Sequence[int]) -> str:
        """Takes new tokens and returns the new text, as far as no later token can change it; it may be empty.

        The bytes of an incomplete character wait for the rest of it.
        """
        self._pending += token_ids
        return self._take(self._num_settled())

    def flush(self) -> str:
        """Returns the rest of the text; an incomplete character becomes a replacement character (U+FFFD)."""
        return self._take(len(self._pending))

    def _num_settled(self) -> int:
        """Returns how many pending tokens have a text that later tokens cannot change."""
        text = self._text(self._pending)
        if not text.endswith(REPLACEMENT):
            return len(self._pending)
        # Where two parts decode to the same text apart as together, no character is split between them.
        shortest = max(0, len(self._pending) - 1 - MAX_CHARACTER_BYTES)
        for number in range(len(self._pending) - 1, shortest, -1):
            tail = self._decode(self._pending[number:])
            if tail and self._text(self._pending[:number]) + tail == text:
                return number
        return 0

    def _take(self, number: int) -> str:
        taken, self._pending = self._pending[:number], self._pending[number:]
        text = self._text(taken)
        self._context = [*self._context, *taken][-NUM_CONTEXT_TOKENS:]
        self._context_text = self._decode(self._context)
        return text

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._decode([*self._context, *token_ids])[len(self._context_text) :]
