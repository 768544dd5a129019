"""Records spans, which show where the time of one problem went. Nothing is recorded before `trace_to` is
called.

The core opens and closes spans; a tracer of OpenTelemetry's API has the one method that is needed here
(drsft/stages/trace_export.py makes one). A span's attributes are the fields of log lines, shard and problem.
Its parent is the enclosing span, in this task or in the task that started it.
"""

from contextlib import AbstractContextManager
from typing import Protocol

from drsft.process.logs import current

__all__ = ["Span", "Tracer", "span", "trace_to"]

Value = str | int | float | bool


class Span(Protocol):
    def set_attribute(self, key: str, value: Value) -> None: ...


class Tracer(Protocol):
    def start_as_current_span(
        self, name: str, *, attributes: dict[str, Value]
    ) -> AbstractContextManager[Span]: ...


class _Unrecorded:
    """The span that is returned while nothing is recorded; the cascade opens several for each sample."""

    def __enter__(self) -> "_Unrecorded":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def set_attribute(self, key: str, value: Value) -> None:
        pass


_UNRECORDED = _Unrecorded()
_tracer: Tracer | None = None


def trace_to(tracer: Tracer | None) -> None:
    """Sends this process's spans to `tracer` from now on; None stops it."""
    global _tracer
    _tracer = tracer


def span(name: str, **attributes: Value) -> AbstractContextManager[Span]:
    """Opens a span for the block, as a child of the enclosing span."""
    if _tracer is None:
        return _UNRECORDED
    return _tracer.start_as_current_span(name, attributes={**current(), **attributes})
