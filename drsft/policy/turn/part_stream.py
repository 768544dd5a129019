"""Splits a completion into thought and answer while it is sampled.

At its end the parts are those that a split of the whole completion gives.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from drsft.policy.turn.split import ThoughtIds

__all__ = ["Part", "PartStream", "Piece"]

Decode = Callable[[Sequence[int]], str]  # markers included
EXTRA_TOKENS = 4  # a spelt marker has at most a token a character; some tokens have no text


class Part(StrEnum):
    THOUGHT = "thought"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Piece:
    """Token ids that have been added to the thought or to the answer.

    A piece of the thought means that all earlier answer pieces must be discarded; it may have no ids.
    """

    part: Part
    ids: tuple[int, ...]


class PartStream:
    """Splits sampled tokens into pieces of thought and answer as they arrive.

    All thought pieces joined are the completion's thought. The answer pieces after the last thought piece are
    its answer. This holds if neither marker begins inside the other, as with all known models. Each token is
    returned at most twice: once as answer and, if that is withdrawn, once as thought.
    """

    def __init__(
        self,
        marks: ThoughtIds | None,
        decode: Decode,
        *,
        leads: Sequence[tuple[int, ...]] = (),
        tail: tuple[int, ...] = (),
    ) -> None:
        """`leads` are texts that may precede an answer and `tail` follows it.

        Neither belongs to the answer.
        """
        self._marks, self._decode, self._leads, self._tail = marks, decode, leads, tail
        self._ids: list[int] = []
        self._is_inside = marks is not None and marks.begins_inside
        self._is_marked = False  # whether any marker has come
        self._first_text: int | None = None  # the first token that is not white space
        self._thought_told, self._thought_end = 0, 0
        self._answer_begin, self._answer_told = 0, 0
        self._lead_is_known = False
        self._has_told_answer, self._takes_back = False, False

    def add(self, token_ids: Sequence[int]) -> list[Piece]:
        """Adds sampled tokens and returns the pieces that are certain now; tokens that may be part of a
        marker are held back until the next call.
        """
        for token_id in token_ids:
            self._ids.append(token_id)
            self._look_for_markers()
        return list(self._pieces(is_whole=False))

    def finish(self) -> list[Piece]:
        """Returns the pieces held back so far; call it after the last token."""
        return list(self._pieces(is_whole=True))

    def _look_for_markers(self) -> None:
        marks = self._marks
        if marks is None:
            return
        if self._first_text is None and marks.begins_inside and self._decode(self._ids[-1:]).strip():
            self._first_text = len(self._ids) - 1
        if (start := self._start_of(marks.open, marks.open_ids, marks)) is not None:
            self._open(start)
        if (start := self._start_of(marks.close, marks.close_ids, marks)) is not None:
            self._close(start)

    def _open(self, start: int) -> None:
        is_begun = self._first_text is not None and self._first_text < start
        if not self._is_marked and not is_begun:
            self._thought_told = len(self._ids)
        self._is_marked = self._is_inside = True
        self._takes_back |= self._has_told_answer

    def _close(self, start: int) -> None:
        self._is_marked, self._is_inside = True, False
        self._takes_back |= self._has_told_answer
        self._thought_end = start
        self._answer_begin = self._answer_told = len(self._ids)
        self._lead_is_known = False

    def _pieces(self, *, is_whole: bool) -> Iterator[Piece]:
        held = 0 if is_whole else self._num_held()
        end = len(self._ids) - held
        if self._is_inside:
            is_blank = not self._is_marked and (self._first_text is None or self._first_text >= end)
            yield from self._thought_up_to(self._thought_told if is_blank and not is_whole else end)
            return
        yield from self._thought_up_to(self._thought_end)
        if self._find_lead(is_whole=is_whole):
            end = min(end, len(self._ids) - self._num_of_tail(is_whole=is_whole))
            if end > self._answer_told:
                yield Piece(Part.ANSWER, tuple(self._ids[self._answer_told : end]))
                self._answer_told, self._has_told_answer = end, True

    def _thought_up_to(self, end: int) -> Iterator[Piece]:
        if end > self._thought_told or self._takes_back:
            yield Piece(Part.THOUGHT, tuple(self._ids[self._thought_told : end]))
            self._takes_back = self._has_told_answer = False
        self._thought_told = max(self._thought_told, end)

    def _find_lead(self, *, is_whole: bool) -> bool:
        """Returns whether it is known which lead precedes the answer, if any."""
        if not self._lead_is_known:
            longest = max(map(len, self._leads), default=0)
            begun = tuple(self._ids[self._answer_begin : self._answer_begin + longest])
            waits = any(len(begun) < len(lead) and lead[: len(begun)] == begun for lead in self._leads)
            if waits and not is_whole:
                return False
            found = next((lead for lead in self._leads if begun[: len(lead)] == lead), ())
            self._answer_told = self._answer_begin + len(found)
            self._lead_is_known = True
        return True

    def _num_of_tail(self, *, is_whole: bool) -> int:
        """Returns how many of the last tokens are the tail, or may become it."""
        sizes = [len(self._tail)] if is_whole else range(len(self._tail), 0, -1)
        answer = self._ids[max(self._answer_told, len(self._ids) - len(self._tail)) :]
        return next((size for size in sizes if size and tuple(answer[-size:]) == self._tail[:size]), 0)

    def _num_held(self) -> int:
        """Returns how many of the last tokens may be the beginning of a marker."""
        marks = self._marks
        if marks is None:
            return 0
        if marks.is_spelt:
            return max(self._num_held_of_text(marks.open), self._num_held_of_text(marks.close))
        sizes = range(max(len(marks.open_ids), len(marks.close_ids)) - 1, 0, -1)
        return next(
            (
                size
                for size in sizes
                for marker in (marks.open_ids, marks.close_ids)
                if size < len(marker) and tuple(self._ids[-size:]) == marker[:size]
            ),
            0,
        )

    def _num_held_of_text(self, marker: str) -> int:
        window = self._ids[-len(marker) - EXTRA_TOKENS :]
        text = self._decode(window)
        num_chars = next((size for size in range(len(marker) - 1, 0, -1) if text.endswith(marker[:size])), 0)
        if not num_chars:
            return 0
        first = self._index_of_char(window, len(text) - num_chars)
        return len(window) - first

    def _start_of(self, marker: str, marker_ids: tuple[int, ...], marks: ThoughtIds) -> int | None:
        """Returns where the marker begins that ends with the last token; None if none does."""
        if marks.is_spelt:
            return self._start_of_text(marker)
        is_here = self._ids[-1] == marker_ids[-1] and tuple(self._ids[-len(marker_ids) :]) == marker_ids
        return len(self._ids) - len(marker_ids) if is_here else None

    def _start_of_text(self, marker: str) -> int | None:
        window = self._ids[-len(marker) - EXTRA_TOKENS :]
        text = self._decode(window)
        place = text.rfind(marker)
        if place < 0 or place + len(marker) <= len(self._decode(window[:-1])):
            return None
        return len(self._ids) - len(window) + self._index_of_char(window, place)

    def _index_of_char(self, window: Sequence[int], place: int) -> int:
        """Returns the index of the token in a window that contains a character of its text."""
        return next(end for end in range(len(window)) if len(self._decode(window[: end + 1])) > place)
