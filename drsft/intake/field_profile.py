"""Describes the fields of rows: types, share of filled values, distinct values, lengths and an example.

A nested field is named by its path.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Any

from drsft.intake.columns import text_of, unpacked

__all__ = ["FieldProfile", "FieldType", "Lengths", "lengths_of", "profile_fields"]

MAX_DEPTH = 4  # of objects within objects
MAX_FIELDS = 200
EXAMPLE_CHARS = 200


class FieldType(StrEnum):
    """The type of a field's value in one row."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TEXTS = "list of texts"
    NUMBERS = "list of numbers"
    CONVERSATION = "conversation"
    OBJECTS = "list of objects"
    OBJECT = "object"
    LIST = "list"
    BYTES = "bytes"
    NULL = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Statistics of text lengths, in characters or tokens."""

    median: int
    p95: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProfile:
    """Statistics of one field's values over the rows, with an example."""

    path: str  # as columns.question would name it
    types: Mapping[FieldType, int]  # the commonest first; NULL where a row has the field as null
    num_rows: int  # all rows that were read, including those without the field
    num_filled: int  # neither missing nor null nor empty
    num_distinct: int
    chars: Lengths | None  # of what becomes text
    example: str

    @property
    def type(self) -> FieldType:
        """The most common type except null; NULL if the field is always null."""
        return next((kind for kind in self.types if kind is not FieldType.NULL), FieldType.NULL)

    @property
    def is_of_first_object(self) -> bool:
        """Whether the field belongs to the first object of a list of objects, as `solutions[0].text` does."""
        return "[0]." in self.path

    @property
    def fill(self) -> float:
        return self.num_filled / self.num_rows if self.num_rows else 0.0


@dataclass(slots=True)
class _Seen:
    types: Counter[FieldType] = field(default_factory=Counter)
    num_filled: int = 0
    hashes: set[int] = field(default_factory=set)
    chars: list[int] = field(default_factory=list)
    example: str = ""

    def add(self, value: Any) -> None:
        self.types[_type_of(value)] += 1
        if value is None or value in ("", [], {}):
            return
        self.num_filled += 1
        text = text_of({"x": value}, "x")
        shown = repr(value) if text is None else text
        self.hashes.add(hash(shown))
        self.example = self.example or shown[:EXAMPLE_CHARS]
        if text is not None:
            self.chars.append(len(text))


def profile_fields(rows: Iterable[Mapping[str, Any]], *, max_rows: int = 1000) -> list[FieldProfile]:
    """Returns the profile of each field of the first `max_rows` rows, in order of first appearance."""
    seen: dict[str, _Seen] = {}
    num_rows = 0
    for fields in islice(rows, max_rows):
        num_rows += 1
        for path, value in _leaves(fields, "", MAX_DEPTH):
            if path in seen or len(seen) < MAX_FIELDS:
                seen.setdefault(path, _Seen()).add(value)
    return [
        FieldProfile(
            path=path,
            types=dict(one.types.most_common()),
            num_rows=num_rows,
            num_filled=one.num_filled,
            num_distinct=len(one.hashes),
            chars=lengths_of(one.chars),
            example=one.example,
        )
        for path, one in seen.items()
    ]


def lengths_of(lengths: Sequence[int]) -> Lengths | None:
    """Returns median, 95th percentile and maximum of the lengths; None if there are none."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    last = len(ordered) - 1
    return Lengths(median=ordered[last // 2], p95=ordered[round(last * 0.95)], max=ordered[-1])


def _leaves(fields: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yields each field with its path; an object yields its members, unless it is empty or too deep.

    A list of objects yields the members of its first one.
    """
    for name, value in fields.items():
        path = f"{before}{name}"
        if isinstance(value, Mapping) and value and depth > 1:
            yield from _leaves(value, f"{path}.", depth - 1)
            continue
        yield path, value
        if depth > 1 and isinstance(value, list) and _type_of(value) is FieldType.OBJECTS and value[0]:
            yield from _leaves(value[0], f"{path}[0].", depth - 1)


def _type_of(value: Any) -> FieldType:
    match value:
        case None:
            return FieldType.NULL
        case str():
            is_talk = value.startswith("[{") and _type_of(unpacked(value)) is FieldType.CONVERSATION
            return FieldType.CONVERSATION if is_talk else FieldType.TEXT
        case bool():
            return FieldType.BOOLEAN
        case int() | float() | Decimal():
            return FieldType.NUMBER
        case date() | time():
            return FieldType.DATE
        case bytes():
            return FieldType.BYTES
        case Mapping():
            return FieldType.OBJECT
        case [_, *_]:
            return _type_of_list(value)
        case _:
            return FieldType.LIST


def _type_of_list(values: Sequence[Any]) -> FieldType:
    kinds = {_type_of(value) for value in values} - {FieldType.NULL}
    if kinds == {FieldType.OBJECT}:
        is_turn = "role" in values[0] or "from" in values[0] if isinstance(values[0], Mapping) else False
        return FieldType.CONVERSATION if is_turn else FieldType.OBJECTS
    if kinds == {FieldType.TEXT}:
        return FieldType.TEXTS
    return FieldType.NUMBERS if kinds == {FieldType.NUMBER} else FieldType.LIST
