"""What every reader yields."""

from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_ROW_BYTES", "BadRow", "Row"]

MAX_ROW_BYTES = 32 << 20  # a row is read whole; what JSON makes of it in memory may be thirty times as much


@dataclass(frozen=True, slots=True)
class Row:
    place: str  # "file line 3", for messages
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    place: str
    reason: str
    content: str  # the start of what stood there
    kind: str = "unreadable row"
