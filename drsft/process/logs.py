"""Writes structured logs: one JSON object per line, with its run, stage, shard and problem.

These fields are set around the work (`about`) and inherited by asyncio tasks, so that code that knows nothing
of shards still logs them.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["JsonLines", "JsonStream", "about", "current", "log_as_json", "wants_json"]

_ABOUT: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("about", default=())


@contextmanager
def about(**what: str) -> Iterator[None]:
    """Adds these fields to JSON log lines and spans within the block, and in asyncio tasks started there."""
    token = _ABOUT.set((*_ABOUT.get(), *what.items()))
    try:
        yield
    finally:
        _ABOUT.reset(token)


def current() -> dict[str, str]:
    """Returns the fields of the enclosing `about` blocks."""
    return dict(_ABOUT.get())


class JsonLines(logging.Formatter):
    """Formats a log record as a JSON line.

    `what` are fields of every line. A record's own `fields` (extra={"fields": {...}}) come last.
    """

    def __init__(self, **what: str) -> None:
        super().__init__()
        self._what = what

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._what,
            **current(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class JsonStream:
    """A text stream that writes each line as a JSON object, for output that people usually read."""

    def __init__(self, stream: TextIO, *, level: int = logging.INFO) -> None:
        self._stream, self._level, self._rest = stream, level, ""
        self._formatter = JsonLines()

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            record = logging.LogRecord("drsft", self._level, "", 0, line.strip(), None, None)
            self._stream.write(self._formatter.format(record) + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()

    def isatty(self) -> bool:
        return False

    def onto(self, stream: TextIO) -> "JsonStream":
        """Returns a JsonStream with the same level that writes to `stream`."""
        return JsonStream(stream, level=self._level)


def wants_json() -> bool:
    """Returns whether the driver has to write its output as JSON lines: DRSFT_LOG=json, as jobs set it."""
    return os.environ.get("DRSFT_LOG") == "json"


def log_as_json(stream: TextIO | None = None, **what: str) -> None:
    """Makes drsft's loggers in this process write JSON lines, to stderr by default."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(**what))
    logger = logging.getLogger("drsft")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
