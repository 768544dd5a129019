"""Texts out of the fields of a user's row: a field by its name, or several through a template."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["find_column", "text_of"]

_FIELD = re.compile(r"\{([^{}]+)\}")


def find_column(fields: Mapping[str, Any], candidates: Sequence[str]) -> str | None:
    """The first of the names, or templates such as "{Body} {Question}", whose fields the row all has."""
    for candidate in candidates:
        if all(name in fields for name in _FIELD.findall(candidate) or [candidate]):
            return candidate
    return None


def text_of(fields: Mapping[str, Any], column: str) -> str | None:
    """The text at a column that `find_column` found; None where a field is no text.

    A list of texts is a list of answers ("3, 5") as a field of its own, and lines within a template.
    """
    names = _FIELD.findall(column)
    if not names:
        return _text(fields[column], separator=", ")
    texts = {name: _text(fields[name], separator="\n") for name in names}
    if any(text is None for text in texts.values()):
        return None
    return _FIELD.sub(lambda match: str(texts[match[1]]), column)


def _text(value: Any, *, separator: str) -> str | None:
    match value:
        case str():
            return value
        case bool() | None:
            return None
        case float() if not math.isfinite(value):
            return None
        case int() | float():
            return str(value)
        case list() if value and all(isinstance(item, str) for item in value):
            return separator.join(value)
        case _:
            return None
