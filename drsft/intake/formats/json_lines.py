"""JSON lines: one object a line."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal

from drsft.config import Problems
from drsft.intake.formats.row import MAX_ROW_BYTES, BadRow, Row
from drsft.intake.formats.stream import Stream

__all__ = ["begins_as_json_lines", "read_json_lines"]

SAMPLED_LINES = 20
_decode = json.JSONDecoder(parse_float=Decimal).decode  # numbers keep the digits that the file gives them


def begins_as_json_lines(stream: Stream) -> bool:
    """Whether one of the first lines is an object by itself, or the first is one too long to tell."""
    lines = [line.strip() for line in stream.head.split("\n") if line.strip()]
    if not stream.is_whole:
        lines = lines[:-1]
        if not lines:
            return stream.head.startswith("{")
    sampled = lines[:SAMPLED_LINES]
    return any(line.startswith("{") and _is_object(line) for line in sampled)


def _is_object(line: str) -> bool:
    try:
        return isinstance(_decode(line), dict)
    except (ValueError, RecursionError):
        return False


def read_json_lines(stream: Stream, problems: Problems) -> Iterator[Row | BadRow]:
    """A row for each line that is not blank."""
    for number, line in enumerate(_lines(stream.open()), start=1):
        if len(line) > MAX_ROW_BYTES:
            detail = f"more than {MAX_ROW_BYTES >> 20} MiB in one line"
            yield BadRow(f"{stream.name} line {number}", detail, _start_of(line))
        elif line.strip():
            yield _row_of_line(line, f"{stream.name} line {number}")


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Each line; of one that is too long its beginning, one byte past the limit."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        yield line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES + 1)


def _row_of_line(line: bytes, place: str) -> Row | BadRow:
    try:
        fields = _decode(line.decode())
    except (ValueError, RecursionError) as error:
        return BadRow(place, f"not JSON: {str(error)[:100]}", _start_of(line))
    if not isinstance(fields, dict):
        return BadRow(place, f"not a JSON object but {type(fields).__name__}", _start_of(line))
    return Row(place, fields)


def _start_of(line: bytes) -> str:
    return line[:500].decode("utf-8", "replace")
