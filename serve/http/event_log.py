"""Logs the events of one request, in order, for readers that may disconnect and return.

An event's id is `<stream>.<number>`: a reader that sends the last id that it saw continues after it.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "EventLog", "EventLogs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; `kind` is stage, attempt, tokens, verdict, result or error."""

    event_id: str
    kind: str
    data: dict[str, Any]

    def as_sse(self) -> str:
        return f"id: {self.event_id}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n"


_LAST = ("result", "error")


class EventLog:
    """The events of one request. Events are added until the log is closed; any number of readers may read it.

    When its last reader has been gone for `patience_s`, `give_up` is called, since nobody waits for the
    result.
    """

    def __init__(self, stream_id: str, *, patience_s: float = 0.0) -> None:
        self.stream_id = stream_id
        self.give_up: Callable[[], object] = lambda: None
        self._events: list[Event] = []
        self._is_closed = False
        self._changed = asyncio.Event()
        self._patience_s = patience_s
        self._num_readers = 0
        self._alone: asyncio.TimerHandle | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the log ends with a result or an error, so that a client can read the whole stream from it.

        False if an error is the only event, since the client then got it as a status.
        """
        events = self._events
        return bool(events) and events[-1].kind in _LAST and events[0].kind != "error"

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Counts as one reader of the log within the block, even before anything is read."""
        self._num_readers += 1
        if self._alone is not None:
            self._alone.cancel()
        try:
            yield
        finally:
            self._num_readers -= 1
            if not (self._num_readers or self._is_closed):
                self._alone = asyncio.get_running_loop().call_later(self._patience_s, self._is_alone)

    def add(self, kind: str, data: dict[str, Any]) -> None:
        event_id = f"{self.stream_id}.{len(self._events)}"
        self._events.append(Event(event_id=event_id, kind=kind, data=data))
        self._wake()

    def close(self) -> None:
        self._is_closed = True
        self._wake()

    async def read(self, *, after: int = -1) -> AsyncIterator[Event]:
        """Yields every event after number `after`, and waits for those to come."""
        position = after + 1
        while True:
            changed = self._changed  # taken before looking, so that nothing is missed in between
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self._is_closed:
                return
            await changed.wait()

    def _is_alone(self) -> None:
        if not self._is_closed:
            self.give_up()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class EventLogs:
    """The event logs that clients can still resume reading, by the stream's id and its caller."""

    def __init__(self, *, keep_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock_s = keep_s, clock_s
        self._growing: dict[tuple[str, str], EventLog] = {}
        self._ended: OrderedDict[tuple[str, str], tuple[EventLog, float]] = OrderedDict()  # the oldest first

    def add(self, owner: str, log: EventLog) -> None:
        self._growing[owner, log.stream_id] = log

    def end(self, owner: str, log: EventLog) -> None:
        """Closes the log of a finished request, and keeps it for `keep_s` so that clients can resume reading.

        It is kept only if it was added here and is whole: not after a cancelled request.
        """
        log.close()
        name, now_s = (owner, log.stream_id), self._clock_s()
        if self._growing.get(name) is log:
            del self._growing[name]
            if log.is_whole:
                self._ended.pop(name, None)
                self._ended[name] = (log, now_s + self._keep_s)
        while self._ended and next(iter(self._ended.values()))[1] <= now_s:
            self._ended.popitem(last=False)

    def find(self, owner: str, event_id: str) -> tuple[EventLog, int] | None:
        """Returns the log that contains the event with this id, and the event's number in it, from 0.

        Returns None if the id is unknown, belongs to another caller, or is too old.
        """
        stream_id, _, number = event_id.rpartition(".")
        if not (number.isascii() and number.isdigit()):
            return None
        log = self._growing.get((owner, stream_id)) or self._kept(owner, stream_id)
        return None if log is None else (log, int(number))

    def _kept(self, owner: str, stream_id: str) -> EventLog | None:
        log, until_s = self._ended.get((owner, stream_id), (None, 0.0))
        return log if until_s > self._clock_s() else None
