"""Defines the service's metrics as a protocol, so that the caller chooses where they are sent."""

from typing import Protocol

__all__ = ["NoMetrics", "ServiceMetrics"]


class ServiceMetrics(Protocol):
    """The service's metrics of docs/metrics.md."""

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        """Counts a response; `route` is the pattern that matched, so that the label has few values."""
        ...

    def rejected(self, reason: str) -> None: ...

    def in_flight(self, num_tokens: int, *, limit: int) -> None: ...


class NoMetrics:
    """Implements ServiceMetrics without counting anything, for callers that want no metrics."""

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        pass

    def rejected(self, reason: str) -> None:
        pass

    def in_flight(self, num_tokens: int, *, limit: int) -> None:
        pass
