"""What happens to one request, in order, for readers that come, go and come back.

An event's id is `<stream>.<number>`: with the last one that it saw, a reader goes on behind it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "EventLog", "EventLogs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`kind` is stage, attempt, tokens, verdict, result or error."""

    event_id: str
    kind: str
    data: dict[str, Any]

    def as_sse(self) -> str:
        return f"id: {self.event_id}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n"


class EventLog:
    """Grows until it is closed; any number of readers."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        self._events: list[Event] = []
        self._is_closed = False
        self._changed = asyncio.Event()

    def add(self, kind: str, data: dict[str, Any]) -> None:
        event_id = f"{self.stream_id}.{len(self._events)}"
        self._events.append(Event(event_id=event_id, kind=kind, data=data))
        self._wake()

    def close(self) -> None:
        self._is_closed = True
        self._wake()

    async def read(self, *, after: int = -1) -> AsyncIterator[Event]:
        """Every event past number `after`, waiting for those to come."""
        position = after + 1
        while True:
            changed = self._changed  # taken before looking, so that nothing is missed in between
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self._is_closed:
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class EventLogs:
    """The logs that can still be taken up again, by the stream's id and its caller."""

    def __init__(self, *, keep_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock_s = keep_s, clock_s
        self._logs: dict[tuple[str, str], tuple[EventLog, float]] = {}

    def start(self, owner: str, stream_id: str) -> EventLog:
        log = EventLog(stream_id)
        self._logs[owner, stream_id] = (log, float("inf"))
        return log

    def end(self, owner: str, log: EventLog) -> None:
        """Closes it; from now on it is kept for the window."""
        log.close()
        now_s = self._clock_s()
        self._logs[owner, log.stream_id] = (log, now_s + self._keep_s)
        self._logs = {name: kept for name, kept in self._logs.items() if kept[1] > now_s}

    def find(self, owner: str, event_id: str) -> tuple[EventLog, int] | None:
        """The log and the number of an event id; None when it is unknown, another caller's, or too old."""
        stream_id, _, number = event_id.rpartition(".")
        kept = self._logs.get((owner, stream_id))
        if kept is None or kept[1] <= self._clock_s() or not (number.isascii() and number.isdigit()):
            return None
        return kept[0], int(number)
