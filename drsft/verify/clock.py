"""The worker's two clocks: a budget for the symbolic step, and word to the pool when a slow import is over.

Only for the worker's main thread, which is a whole process of its own: signals are safe there and nowhere
else. Outside a worker (plain threads, tests) `budget` does nothing and the caller has no limit but its own.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["OverBudget", "budget", "loaded", "on_load"]

_listeners: list[Callable[[], None]] = []


class OverBudget(BaseException):
    """Raised inside the symbolic step. Not an Exception: sympy swallows those in many places."""


def on_load(listener: Callable[[], None]) -> None:
    _listeners[:] = [listener]


def loaded() -> None:
    """A slow import is done; the pool starts the case's clock again."""
    for listener in _listeners:
        listener()


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Raise OverBudget after `seconds` of processor time; one long C call is left to the pool."""
    if not _listeners or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(signum: int, frame: object) -> None:
        raise OverBudget

    previous = signal.signal(signal.SIGPROF, expire)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
