"""A statement that may be a text's answer, and the kind of place where it was found."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["FORMAL", "MAX_ANSWER_CHARS", "TAIL_CHARS", "Place", "Statement"]

TAIL_CHARS = 100_000  # of a text are read: an answer stands at the end
MAX_ANSWER_CHARS = TAIL_CHARS  # the judge says of a long answer that it is too long, not that it is missing


class Place(StrEnum):
    """Where a text that may be the answer was found, the most trusted places first.

    In all places but the last, something in the text marks it as the answer. The last place is a guess.
    """

    BOX = "box"
    TAG = "tag"
    FIELD = "field"
    MARK = "marker"
    PHRASE = "phrase"
    WHOLE_TEXT = "whole text"
    CONCLUSION = "last value"


FORMAL = frozenset({Place.BOX, Place.TAG, Place.FIELD, Place.MARK})


@dataclass(frozen=True, slots=True)
class Statement:
    """A text that may be the answer, as it was written, and the place where it was found."""

    text: str
    place: Place

    @classmethod
    def of(cls, answer: str, place: Place) -> "Statement | None":
        """Returns the statement with its text stripped; None if `answer` is empty or far too long."""
        answer = answer.strip()
        return cls(answer, place) if answer and len(answer) <= MAX_ANSWER_CHARS else None
