"""Reads a JSON document in one of these forms: an array of rows, rows below a key, an object of rows by their
id, an object of columns, or a series of objects.

A document that is an object is read twice: first to find its form, then for its rows.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from drsft.config import Problems
from drsft.errors import InputError
from drsft.intake.formats.json_text import JsonText
from drsft.intake.formats.row import BadRow, Row
from drsft.intake.formats.stream import Stream
from drsft.intake.splits import split_of, wanted_splits

__all__ = ["begins_as_json_document", "read_json_document"]

# Keys that hold the rows if there are several lists of objects; the first one found counts.
_USUAL = ("rows", "data", "examples", "instances", "problems", "questions", "items", "records", "samples")
_ARRAY = re.compile(r"\s*\[\s*(?:\{|\]|$)")
_TURN = frozenset({"role", "from"})  # what a turn of a conversation has
_PARTS_OF_A_ROW = {"options", "choices", "messages", "conversations", "steps", "tools"}
MAX_COLUMN_CHARS = 1 << 30
MAX_NAMES = 1000


def begins_as_json_document(stream: Stream) -> bool:
    """Returns whether the file begins with an array of objects, or an object of several lines.

    An object on one line is a document only if nothing follows it; otherwise the file is JSON lines.
    """
    head = stream.head.lstrip()
    if _ARRAY.match(head):
        return True
    if not head.startswith("{"):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(head)
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(head.rstrip()) - 8 or error.msg.startswith("Unterminated")
        return is_cut and not stream.is_whole
    except (ValueError, RecursionError):
        return False
    return "\n" in head[:end] or not head[end:].strip()


class _Kind(Enum):
    """The kinds of members that the top-level object can have, as far as they show where the rows are."""

    ROWS = auto()  # a list of objects
    OBJECT = auto()
    INDEXED = auto()  # an object whose keys are numbers, as pandas writes a column
    LIST = auto()  # of values that are no objects
    OTHER = auto()


@dataclass(slots=True)
class _Shape:
    """The top level of a document: the members of its first object, and whether more values follow it."""

    num_values: int = 0
    kinds: Counter[_Kind] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)  # of the first members
    lists_of_rows: list[str] = field(default_factory=list)
    lengths: set[int] = field(default_factory=set)  # of its lists and objects

    @property
    def has_columns(self) -> bool:
        is_one_kind = set(self.kinds) in ({_Kind.INDEXED}, {_Kind.LIST})
        return is_one_kind and len(self.lengths) == 1 and self.kinds.total() > 1

    @property
    def is_by_id(self) -> bool:
        return bool(self.kinds) and set(self.kinds) <= {_Kind.OBJECT, _Kind.INDEXED}


def read_json_document(stream: Stream, problems: Problems) -> Iterator[Row | BadRow]:
    """Yields the rows of a document; a BadRow where a row is not an object.

    Raises InputError if several places could hold the rows, or `problems.reading.rows` names none.
    """
    text = JsonText(stream)
    if problems.reading.rows is not None:
        _go_to(text, problems.reading.rows.split("."), stream.name)
        yield from _rows_here(text, stream.name)
    elif text.peek() == "[":
        yield from _rows_here(text, stream.name)
    elif text.peek():
        yield from _rows_of_objects(stream, _shape_of(text), problems.split)


def _rows_of_objects(stream: Stream, shape: _Shape, split: str) -> Iterator[Row | BadRow]:
    text = JsonText(stream)
    key = _key_of_rows(shape, stream.name, split)
    if shape.num_values > 1:
        number = 0
        while text.peek():
            number += 1
            yield _row(text.value(), f"{stream.name} object {number}")
    elif key is not None:
        _go_to(text, [key], stream.name)
        yield from _rows_here(text, stream.name)
    elif shape.has_columns:
        yield from _rows_of_columns(text, stream.name)
    elif shape.is_by_id:
        yield from _rows_here(text, stream.name)
    else:
        yield _row(text.value(), f"{stream.name} object 1")


def _rows_here(text: JsonText, name: str) -> Iterator[Row | BadRow]:
    """Yields the elements of a list, or the members of an object with their keys as `id`."""
    if text.peek() == "[":
        for number in text.elements():
            yield _row(text.value(), f"{name} row {number}")
    elif text.peek() == "{":
        for key in text.members():
            row = _row(text.value(), f"{name} key {key!r:.100}")
            if isinstance(row, Row):
                row.fields.setdefault("id", key)
            yield row
    else:
        raise InputError(f"{name}: problems.reading.rows must be the key of a list (or an object) of rows")


def _row(value: Any, place: str) -> Row | BadRow:
    if isinstance(value, dict):
        return Row(place, value)
    return BadRow(place, f"not a JSON object but {type(value).__name__}", str(value)[:500])


def _go_to(text: JsonText, keys: Sequence[str], name: str) -> None:
    for key in keys:
        there: list[str] = []
        if text.peek() == "{":
            for one in text.members():
                if one == key:
                    break
                there.append(one)
                text.value(max_chars=MAX_COLUMN_CHARS)
            else:
                raise InputError(_no_such_key(name, key, there))
        else:
            raise InputError(_no_such_key(name, key, there))


def _no_such_key(name: str, key: str, there: Sequence[str]) -> str:
    has = f" (it has: {', '.join(there[:10])})" if there else ""
    return f"{name} has no key {key!r}{has}; set problems.reading.rows"


def _rows_of_columns(text: JsonText, name: str) -> Iterator[Row]:
    """Yields the rows of a document of columns, the one kind that is read into memory as a whole."""
    columns = text.value(max_chars=MAX_COLUMN_CHARS)
    lists = [list(one.values()) if isinstance(one, dict) else one for one in columns.values()]
    for number, values in enumerate(zip(*lists, strict=True), start=1):
        yield Row(f"{name} row {number}", dict(zip(columns, values, strict=True)))


def _shape_of(text: JsonText) -> _Shape:
    shape = _Shape(num_values=1)
    for key in text.members():
        if len(shape.names) < MAX_NAMES:
            shape.names.append(key)
        kind, length = _kind_of(text, key)
        shape.kinds[kind] += 1
        if length is not None:
            shape.lengths.add(length)
        if kind is _Kind.ROWS:
            shape.lists_of_rows.append(key)
    if text.peek():
        shape.num_values += 1
    return shape


def _kind_of(text: JsonText, key: str) -> tuple[_Kind, int | None]:
    """Returns the kind of the next value, and its length if it has one."""
    match text.peek():
        case "[":
            length, has_rows, has_values = 0, False, False
            for number in text.elements():
                value, length = text.value(), number
                is_row = isinstance(value, dict) and not (_TURN & value.keys())
                has_rows, has_values = has_rows or is_row, has_values or not is_row
            if has_rows and not has_values and key not in _PARTS_OF_A_ROW:
                return _Kind.ROWS, length
            return (_Kind.OTHER if has_rows else _Kind.LIST), length
        case "{":
            length, is_indexed = 0, True
            for inner in text.members():
                value, length = text.value(max_chars=MAX_COLUMN_CHARS), length + 1
                is_indexed = is_indexed and inner.isdecimal() and not isinstance(value, dict)
            return (_Kind.INDEXED if is_indexed and length else _Kind.OBJECT), length
        case _:
            text.value()
            return _Kind.OTHER, None


def _key_of_rows(shape: _Shape, name: str, split: str) -> str | None:
    """Returns the key below which the rows are; None if none holds a list of objects, or objects by split."""
    keys = shape.lists_of_rows
    if not keys and shape.is_by_id and all(split_of(key) for key in shape.names):
        keys = shape.names
    if any(split_of(key) for key in keys):
        chosen = [key for key in keys if split_of(key) in wanted_splits(split)]
        if len(chosen) != 1:
            has = ", ".join(keys[:10])
            raise InputError(f"{name} has the splits {has}, not {split!r}; set problems.split")
        return chosen[0]
    if len(keys) < 2:
        return keys[0] if keys else None
    usual = next((key for key in _USUAL if key in keys), None)
    if usual is None:
        has = ", ".join(keys[:10])
        raise InputError(f"{name} has rows below {has}; set problems.reading.rows to one of them")
    return usual
