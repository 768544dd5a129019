"""What the service says of itself while it works; where it goes is the caller's to choose."""

from typing import Protocol

__all__ = ["Meter", "NoMeter"]


class Meter(Protocol):
    """The service's metrics of docs/metrics.md."""

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        """`route` is the pattern that matched, so there are few."""
        ...

    def refused(self, reason: str) -> None: ...

    def in_flight(self, num_tokens: int, *, limit: int) -> None: ...


class NoMeter:
    """Listens to nothing."""

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        pass

    def refused(self, reason: str) -> None:
        pass

    def in_flight(self, num_tokens: int, *, limit: int) -> None:
        pass
