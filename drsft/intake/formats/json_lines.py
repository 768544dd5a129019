"""Reads JSON lines: one object per line."""

import io
from collections.abc import Iterator

from drsft.config import Problems
from drsft.intake.formats.row import MAX_ROW_BYTES, BadRow, JsonLine, decode_json, start_of
from drsft.intake.formats.stream import Stream

__all__ = ["begins_as_json_lines", "read_json_lines"]

SAMPLED_LINES = 20


def begins_as_json_lines(stream: Stream) -> bool:
    """Returns whether one of the first lines is a JSON object, or the first one may be but is too long."""
    lines = [line.strip() for line in stream.head.split("\n") if line.strip()]
    if not stream.is_whole:
        lines = lines[:-1]
        if not lines:
            return stream.head.startswith("{")
    sampled = lines[:SAMPLED_LINES]
    return any(line.startswith("{") and _is_object(line) for line in sampled)


def _is_object(line: str) -> bool:
    try:
        return isinstance(decode_json(line), dict)
    except (ValueError, RecursionError):
        return False


def read_json_lines(stream: Stream, problems: Problems) -> Iterator[JsonLine | BadRow]:
    """Yields each line that is not blank, unparsed; a BadRow for a line of more than MAX_ROW_BYTES."""
    for number, line in enumerate(_lines(stream.open()), start=1):
        if len(line) > MAX_ROW_BYTES:
            detail = f"more than {MAX_ROW_BYTES >> 20} MiB in one line"
            yield BadRow(f"{stream.name} line {number}", detail, start_of(line))
        elif line.strip():
            yield JsonLine(f"{stream.name} line {number}", line)


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yields each line; of a line that is too long, only its beginning, up to one byte past the limit."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        yield line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES + 1)
