"""A replica that is to end lets nothing more in, and says how many requests are still inside."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Door", "Ending"]


class Ending(Exception):  # noqa: N818 - an answer, not a fault
    """Another replica takes the request, or this service's next start."""


class Door:
    def __init__(self) -> None:
        self.num_inside = 0
        self._is_closed = False

    def close(self) -> int:
        """How many are still inside; call it again until there are none."""
        self._is_closed = True
        return self.num_inside

    def check(self) -> None:
        """Raises Ending when it is closed."""
        if self._is_closed:
            raise Ending

    @contextmanager
    def passed(self) -> Iterator[None]:
        """For one request, from its first byte to the last one of its answer. Raises Ending."""
        self.check()
        self.num_inside += 1
        try:
            yield
        finally:
            self.num_inside -= 1
