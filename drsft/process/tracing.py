"""Spans: where the time of one problem went. Nothing is recorded until `trace_to` names who records.

The core says what begins and ends; a tracer of OpenTelemetry's API has the one method that is asked for
here (drsft/stages/trace_export.py makes one). A span has what log lines are about, the shard and the
problem, as its attributes, and the span around it, in this task or in the one that began it, as its parent.
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
    """Stands for every span while nobody records: the cascade opens several for each sample."""

    def __enter__(self) -> "_Unrecorded":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def set_attribute(self, key: str, value: Value) -> None:
        pass


_UNRECORDED = _Unrecorded()
_tracer: Tracer | None = None


def trace_to(tracer: Tracer | None) -> None:
    """From now on this process's spans go to `tracer`; None ends that."""
    global _tracer
    _tracer = tracer


def span(name: str, **attributes: Value) -> AbstractContextManager[Span]:
    """The block as a span below the one that is open around it."""
    if _tracer is None:
        return _UNRECORDED
    return _tracer.start_as_current_span(name, attributes={**current(), **attributes})
