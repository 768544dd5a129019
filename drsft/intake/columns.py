"""Reads texts from the fields of a user's row: a field by name or path, or several through a template.

How a value becomes text is written down in docs/data.md, section "Values".
"""

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from drsft.intake.formats.row import decode_json

__all__ = ["find_column", "template_fields", "text_of", "unpacked", "value_at"]

_FIELD = re.compile(r"\{([^{}]+)\}")
_STEP = re.compile(r"\[(-?\d+)\]|\.?([^.\[\]]+)")
_ARRAY_END = re.compile(r"\],\s{0,20}dtype=[^)\]\s]{1,12}\)")  # of numpy's array([...], dtype=object)
_BETWEEN_TEXTS = re.compile(r"(?<=['\"])\s+(?=['\"])")
MAX_UNPACKED_CHARS = 1 << 20
_MISSING = object()
_LETTERED = {"options", "choices", "candidates", "endings"}  # fields that are shown with a letter each
_OWN_LETTER = re.compile(r"\s*\(?[A-Z]\s*[).:]")
_LABELS, _TEXTS = ("label", "labels", "key", "letter"), ("text", "texts", "content", "value")


def find_column(fields: Mapping[str, Any], candidates: Sequence[str]) -> str | None:
    """Returns the first candidate (a name, a path or a template) whose fields are all in the row, or None.

    A template looks like "{Body} {Question}". A field may be null.
    """
    for candidate in candidates:
        if candidate in fields and "{" not in candidate:  # as nearly all rows have it
            return candidate
        if all(value_at(fields, name, _MISSING) is not _MISSING for name in template_fields(candidate)):
            return candidate
    return None


def template_fields(column: str) -> list[str]:
    """Returns the names or paths of the fields that `column` reads: a template's, or `column` itself."""
    return _FIELD.findall(column) or [column]


def value_at(fields: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """Returns the value at a name or a path such as "a.b[0].c"; `default` if the row does not have it.

    A field whose name is exactly `path` takes precedence.
    """
    if path in fields:
        return fields[path]
    value: Any = fields
    for step in _steps(path):
        match step, unpacked(value):
            case str(), Mapping() as there if step in there:
                value = there[step]
            case int(), list() as there if -len(there) <= step < len(there):
                value = there[step]
            case _:
                return default
    return value


def unpacked(value: Any) -> Any:
    """Parses the text of a list or an object, as JSON, Python or pandas print them.

    Returns any other value unchanged.
    """
    if not isinstance(value, str) or not value.startswith(("[", "{")) or len(value) > MAX_UNPACKED_CHARS:
        return value
    for read in (decode_json, _literal):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | dict):
            return found
    return value


def _literal(text: str) -> Any:
    """Returns the value of a Python literal, with numpy arrays as lists.

    numpy also prints arrays without commas.
    """
    lists = _ARRAY_END.sub("]", text.replace("array([", "["))
    return ast.literal_eval(_BETWEEN_TEXTS.sub(", ", lists))


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[str | int, ...]:
    """Returns the keys and indices of a path; a path that cannot be parsed is one key."""
    found = list(_STEP.finditer(path))
    if not path or "".join(one[0] for one in found) != path or path.startswith("."):
        return (path,)
    return tuple(int(one[1]) if one[1] else one[2] for one in found)


def text_of(fields: Mapping[str, Any], column: str) -> str | None:
    """Returns a row's text at a column that `find_column` found; None if a value cannot become a text.

    Numbers, dates and lists of values become texts; objects and nulls do not. A list that is the whole column
    becomes "3, 5"; in a template each element becomes a line. A null field adds nothing to a template, not
    even its line; if all fields are null, the result is None.
    """
    names = _FIELD.findall(column)
    if not names:
        return _text(value_at(fields, column), separator=", ")
    texts: dict[str, str] = {}
    for name in names:
        value = value_at(fields, name)
        text = "" if value is None else _part(name, value)
        if text is None:
            return None
        texts[name] = text
    if not any(texts.values()):
        return None
    lines = (_filled(line, texts) for line in column.split("\n"))
    return "\n".join(line for line in lines if line is not None)


def _filled(line: str, texts: Mapping[str, str]) -> str | None:
    """Returns a template's line with its fields filled in; None if it has only null fields."""
    filled = _FIELD.sub(lambda match: texts[match[1]], line)
    return None if not filled.strip() and _FIELD.search(line) else filled


def _part(name: str, value: Any) -> str | None:
    """Returns the text of a field within a template; options get their letters."""
    is_lettered = str(_steps(name)[-1]).lower() in _LETTERED
    options = _options(unpacked(value) if is_lettered else value, is_lettered=is_lettered)
    return _text(value, separator="\n") if options is None else options


def _options(value: Any, *, is_lettered: bool) -> str | None:
    """Returns a line for each option with its letter; None if the value is not a list of options.

    Accepted are an object by letter, lists `label` and `text` side by side, a list of such objects, or plain
    texts.
    """
    pairs = list(_pairs(value, is_lettered=is_lettered))
    if not pairs:
        return None
    texts = [(_text(label, separator=", "), _text(text, separator=", ")) for label, text in pairs]
    if any(label is None or text is None for label, text in texts):
        return None
    return "\n".join(f"{label}. {text}" if label else str(text) for label, text in texts)


def _pairs(value: Any, *, is_lettered: bool) -> Iterator[tuple[Any, Any]]:
    match value:
        case Mapping():
            labels, texts = _first(value, _LABELS), _first(value, _TEXTS)
            if isinstance(texts, list):
                yield from zip(labels if isinstance(labels, list) else ascii_uppercase, texts, strict=False)
            else:
                yield from ((label, text) for label, text in value.items() if text is not None)
        case [Mapping(), *_]:
            for letter, one in zip(ascii_uppercase, value, strict=False):
                if not isinstance(one, Mapping):
                    return
                yield _first(one, _LABELS) or letter, _first(one, _TEXTS)
        case [*_] if is_lettered and len(value) <= len(ascii_uppercase):
            have_own = all(isinstance(one, str) and _OWN_LETTER.match(one) for one in value)
            yield from (
                ("" if have_own else letter, one) for letter, one in zip(ascii_uppercase, value, strict=False)
            )


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if name in fields), None)


def _text(value: Any, *, separator: str) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "True" if value else "False"
        case float() if not math.isfinite(value):
            return None
        case Decimal() if not value.is_finite():
            return None
        case float() | Decimal():
            return str(value).replace("E+", "e").replace("E", "e")
        case int() | date() | time() | timedelta():
            return str(value)
        case bytes():
            return _decoded(value)
        case [_, *_]:
            texts = [_item(item) for item in value]
            return None if None in texts else separator.join(map(str, texts))
        case _:
            return None


def _item(value: Any) -> str | None:
    """Returns the text of a list element; a list within it keeps its brackets."""
    text = _text(value, separator=", ")
    return f"[{text}]" if isinstance(value, list) and text is not None else text


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
