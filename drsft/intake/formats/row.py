"""The rows that every reader yields."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = ["MAX_ROW_BYTES", "BadRow", "JsonLine", "Row", "decode_json", "start_of"]

decode_json = json.JSONDecoder(parse_float=Decimal).decode  # numbers keep the digits that the file gives them
MAX_ROW_BYTES = 32 << 20  # a row is read as a whole; parsed JSON may need thirty times as much memory


@dataclass(frozen=True, slots=True)
class Row:
    place: str  # "file line 3", for messages
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    place: str
    reason: str
    content: str  # the beginning of the unreadable row
    kind: str = "unreadable row"


@dataclass(frozen=True, slots=True)
class JsonLine:
    """A line of a JSON lines file, not parsed yet, so that another process can do it."""

    place: str
    line: bytes

    def parsed(self) -> Row | BadRow:
        try:
            fields = decode_json(self.line.decode())
        except (ValueError, RecursionError) as error:
            return BadRow(self.place, f"not JSON: {str(error)[:100]}", start_of(self.line))
        if not isinstance(fields, dict):
            return BadRow(self.place, f"not a JSON object but {type(fields).__name__}", start_of(self.line))
        return Row(self.place, fields)


def start_of(line: bytes) -> str:
    return line[:500].decode("utf-8", "replace")
