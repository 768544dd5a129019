"""Draining: a replica that is about to stop rejects new requests and counts those in flight."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DrainGate", "Draining"]


class Draining(Exception):  # noqa: N818 - a response, not an error
    """The replica is draining. The client should retry; another replica will take the request."""


class DrainGate:
    """Counts the requests in flight, and rejects new ones once it is closed."""

    def __init__(self) -> None:
        self.num_in_flight = 0
        self._is_closed = False

    def close(self) -> int:
        """Rejects new requests from now on; returns the number in flight. Call it repeatedly until it returns
        0.
        """
        self._is_closed = True
        return self.num_in_flight

    def check(self) -> None:
        """Raises Draining once the gate is closed."""
        if self._is_closed:
            raise Draining

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts one request as in flight for the block. Raises Draining once the gate is closed."""
        self.check()
        self.num_in_flight += 1
        try:
            yield
        finally:
            self.num_in_flight -= 1
