"""Gives the texts of a data set's first rows, column by column, to the search for its columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drsft.intake.columns import text_of, unpacked, value_at
from drsft.intake.field_profile import lengths_of, profile_fields
from drsft.intake.messages import Conversation, UnusableConversation, read_conversation
from drsft.verify.choice.offered import options_of
from drsft.verify.extraction.reference_answer import reference_answer

__all__ = ["RowTexts"]

CHECKED = 100  # rows whose texts are read
_STATED = re.compile(r"####|\\boxed|answer is|answer:", re.IGNORECASE)


class RowTexts:
    """The profiles of all fields, and the texts of the first rows. A column is a path or a template."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.profiles = profile_fields(rows)
        self.rows = rows[:CHECKED]

    def of(self, column: str) -> list[str]:
        """Returns the column's text in each row; "" for a row that has no text there."""
        return [text_of(fields, column) or "" for fields in self.rows]

    def values(self, column: str) -> list[Any]:
        """Returns the column's value in each row; None for a row without a value. A text that spells a list
        is parsed.
        """
        return [unpacked(value_at(fields, column)) for fields in self.rows]

    def conversations(self, column: str) -> list[Conversation | UnusableConversation]:
        return [read_conversation(value_at(fields, column)) for fields in self.rows]

    def has(self, column: str) -> bool:
        return _most(bool(text) for text in self.of(column))

    def ask(self, column: str) -> bool:
        return _most("?" in text for text in self.of(column))

    def list_options(self, column: str) -> bool:
        return _most(len(options_of(text)) > 1 for text in self.of(column))

    def are_letters(self, column: str) -> bool:
        texts = set(self.of(column))
        return len(texts) > 1 and all(len(one) == 1 and one in "ABCDEFGH" for one in texts)

    def are_short(self, column: str) -> bool:
        chars = lengths_of(list(map(len, self.of(column))))
        return chars is None or (chars.median < 40 and chars.p95 < 80)

    def hold(self, column: str, other: str) -> bool:
        """Returns whether over 90 % of the texts in `column` contain the text of `other` in the same row.

        Only rows that have both count.
        """
        both = zip(self.of(column), map(str.strip, self.of(other)), strict=True)
        pairs = [(one, two) for one, two in both if one and two]
        return bool(pairs) and sum(two in one for one, two in pairs) * 10 > len(pairs) * 9

    def state_answers(self, column: str) -> bool:
        texts = self.of(column)
        stated = [bool(_STATED.search(text)) and reference_answer(text) is not None for text in texts]
        return sum(stated) * 5 >= len(stated) * 3

    def are_conversations(self, column: str) -> bool:
        return _most(isinstance(one, Conversation) for one in self.conversations(column))

    def end_with_answers(self, messages: str) -> bool:
        """Returns whether most conversations in this column end with a turn of the assistant."""
        read = self.conversations(messages)
        return _most(isinstance(one, Conversation) and one.answer is not None for one in read)


def _most(said: Iterable[bool]) -> bool:
    every = list(said)
    return sum(every) * 2 > len(every)
