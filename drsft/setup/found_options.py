"""Finds the fields with a question's options, and makes the template that shows them below the question."""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from drsft.intake.field_profile import FieldType
from drsft.intake.roles import Role, candidates_for, clear_choice
from drsft.setup.row_texts import RowTexts

__all__ = ["option_fields", "options_template"]

MAX_OPTIONS = 8
_OPTION_TEXTS = {"options", "choices"}
_LETTER_FIELD = re.compile(
    r"(?:(option|choice|answer|alternative|candidate|ending|ans|opt|op|sol)[\s_-]?)?([A-H]|\d)", re.IGNORECASE
)
_OPTION_NAME = re.compile(r"[A-Ha-h]|\d(?:\.0)?")
_UNNAMED = re.compile(r"column_\d+")


def options_template(texts: RowTexts, question: str, reference: str, taken: set[str]) -> str | None:
    """Returns template lines that show the options below a question, each with its letter.

    Returns None if the questions list their options already, or no field has any. Fields in `taken` have
    another role.
    """
    if texts.list_options(question):
        return None
    for one in texts.profiles:  # a text that lists them, "A) 5 B) 7" or "['5', '7']"
        is_text = one.path.lower() in _OPTION_TEXTS and one.type is FieldType.TEXT
        if is_text and texts.list_options(f"{{{one.path}}}"):
            return f"{{{one.path}}}"
    found = [one for one in candidates_for(Role.OPTIONS, texts.profiles) if one.column not in taken]
    best = clear_choice(found)
    if best is not None:
        return f"{{{best.column}}}"
    fields = (
        option_fields(texts, taken)
        or _in_list(texts, reference, taken)
        or _between(texts, question, reference)
    )
    lines = zip(ascii_uppercase, fields, strict=False)
    return "\n".join(f"{letter}. {{{name}}}" for letter, name in lines) or None


def option_fields(texts: RowTexts, taken: set[str]) -> Sequence[str]:
    """Returns the fields that hold one option each, in order: A, B, C, … or option_1, option_2, …

    Fields in `taken` do not count. Returns [] unless there are at least two, without a gap in their letters
    or numbers.
    """
    found: dict[str, dict[str, str]] = {}
    for one in texts.profiles:
        match = _LETTER_FIELD.fullmatch(one.path)
        if match is not None and one.path not in taken and one.num_filled:
            found.setdefault((match[1] or "").lower(), {})[match[2].upper()] = one.path
    for labelled in found.values():
        for letters in ("ABCDEFGH", "12345678", "01234567"):
            if len(labelled) > 1 and sorted(labelled) == sorted(letters[: len(labelled)]):
                return [labelled[letter] for letter in letters[: len(labelled)]]
    return []


def _in_list(texts: RowTexts, reference: str, taken: set[str]) -> Sequence[str]:
    """Returns the paths of a list column's elements: choices[0], choices[1], …

    Returns [] unless there is one list column, its lists have equal length, and each answer is a letter or a
    number.
    """
    lists = [one.path for one in texts.profiles if one.type is FieldType.TEXTS and one.path not in taken]
    if len(lists) != 1 or not all(map(_OPTION_NAME.fullmatch, texts.of(reference))):
        return []
    sizes = {len(one) if isinstance(one, list) else 0 for one in texts.values(lists[0])}
    if len(sizes) > 1 or not 2 <= min(sizes) <= MAX_OPTIONS:
        return []
    return [f"{lists[0]}[{place}]" for place in range(min(sizes))]


def _between(texts: RowTexts, question: str, reference: str) -> Sequence[str]:
    """Returns the columns between the question and the letter of its answer, in a table without names."""
    paths = [one.path for one in texts.profiles]
    if question not in paths or not all(map(_UNNAMED.fullmatch, paths)) or not texts.are_letters(reference):
        return []
    between = paths[paths.index(question) + 1 : paths.index(reference)]
    return between if 2 <= len(between) <= MAX_OPTIONS else []
