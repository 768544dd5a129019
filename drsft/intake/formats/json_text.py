"""Reads a JSON text value by value, so that a file of any length needs the memory of its longest value."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from drsft.intake.formats.row import MAX_ROW_BYTES
from drsft.intake.formats.stream import BreaksOffError, Stream

__all__ = ["JsonText"]

CHUNK_CHARS = 1 << 18
_WHITE = " \t\r\n"
_DECODER = json.JSONDecoder(parse_float=Decimal)


class JsonText:
    """Reads a JSON text from its beginning; every method goes on from where the last one stopped.

    Every method raises BreaksOffError if the text is not JSON.
    """

    def __init__(self, stream: Stream) -> None:
        self._text = io.TextIOWrapper(stream.open(), encoding="utf-8", errors="surrogateescape", newline="")
        self._buffer = ""
        self._at = 0
        self._num_before = 0  # characters before the buffer
        self._ended = False

    def peek(self) -> str:
        """Returns the next character that is not white space, without reading it; "" at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _WHITE:
                self._at += 1
            if self._at < len(self._buffer) or self._ended:
                return self._buffer[self._at : self._at + 1]
            self._grow()

    def elements(self) -> Iterator[int]:
        """Reads the next list: yields the number (from 1) of each element, which the caller has to read."""
        self._take("[")
        number = 0
        while self.peek() != "]":
            number += 1
            yield number
            self._separate("]")
        self._take("]")

    def members(self) -> Iterator[str]:
        """Reads the next object: yields each key, whose value the caller has to read."""
        self._take("{")
        while self.peek() != "}":
            if self.peek() != '"':
                raise self._broken("a key in quotes is missing")
            key = self.value()
            self._take(":")
            yield key
            self._separate("}")
        self._take("}")

    def value(self, *, max_chars: int = MAX_ROW_BYTES) -> Any:
        """Reads and returns the next value, with decimals as Decimal; one beyond `max_chars` is not JSON."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._ended or len(self._buffer) - self._at > max_chars:
                    raise self._broken(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self._broken(str(error)[:100]) from error
            else:
                if end < len(self._buffer) or self._ended:  # else a number may go on in the next chunk
                    self._at = end
                    return found
            self._grow()

    def _take(self, char: str) -> None:
        if self.peek() != char:
            raise self._broken(f"{char!r} is missing")
        self._at += 1

    def _separate(self, end: str) -> None:
        if self.peek() == ",":
            self._at += 1
        elif self.peek() != end:
            raise self._broken(f"',' or {end!r} is missing")

    def _grow(self) -> None:
        """At least doubles the unread text in memory, so that a long value is tried only a few times."""
        rest = self._buffer[self._at :]
        self._num_before += self._at
        more = self._text.read(max(CHUNK_CHARS, len(rest)))
        self._ended = not more
        self._buffer, self._at = rest + more, 0

    def _broken(self, reason: str, at: int | None = None) -> BreaksOffError:
        position = self._num_before + (self._at if at is None else at)
        return BreaksOffError(f"not JSON at character {position:,}: {reason}")
