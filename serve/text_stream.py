"""Tokens become text while they come: in pieces, each told once."""

from collections.abc import Callable, Sequence

__all__ = ["TextSoFar"]

HALF = "\ufffd"  # what stands for bytes that are no character, or not yet
NUM_BEFORE = 8  # tokens that are decoded along: some tokenizers write one otherwise at a text's beginning
MOST_BYTES = 4  # of a character


class TextSoFar:
    """The pieces, with the rest at the end, are the text of all tokens; each costs what it is long."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []  # the last that were told
        self._before_text = ""
        self._held: list[int] = []  # that were not

    def add(self, token_ids: Sequence[int]) -> str:
        """What can be told by now: half a character waits for its other bytes."""
        self._held += token_ids
        return self._tell(self._num_settled())

    def rest(self) -> str:
        return self._tell(len(self._held))

    def _num_settled(self) -> int:
        """Of the held tokens, those that none to come can change."""
        text = self._text(self._held)
        if not text.endswith(HALF):
            return len(self._held)
        # Where two parts by themselves read as they do together, no character goes from one into the other.
        for number in range(len(self._held) - 1, max(0, len(self._held) - 1 - MOST_BYTES), -1):
            tail = self._decode(self._held[number:])
            if tail and self._text(self._held[:number]) + tail == text:
                return number
        return 0

    def _tell(self, number: int) -> str:
        told, self._held = self._held[:number], self._held[number:]
        text = self._text(told)
        self._before = [*self._before, *told][-NUM_BEFORE:]
        self._before_text = self._decode(self._before)
        return text

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._decode([*self._before, *token_ids])[len(self._before_text) :]
