"""Defines the service's metrics behind a protocol: the caller chooses where they go."""

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
    """Implements ServiceMetrics and counts nothing, for where no metrics are wanted."""

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        pass

    def rejected(self, reason: str) -> None:
        pass

    def in_flight(self, num_tokens: int, *, limit: int) -> None:
        pass
