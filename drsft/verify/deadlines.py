"""Limits the symbolic step in a worker, and tells the pool when a slow import is over.

Only the worker's main thread may use signals, and it is alone in its process. Outside a worker (plain
threads, tests) `budget` does nothing, and the caller has no limit but its own.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["OverBudget", "budget", "imports_done", "on_imports_done"]

_listeners: list[Callable[[], None]] = []


class OverBudget(BaseException):
    """The symbolic step exceeded its processor time. It is no Exception, since sympy swallows those in many
    places.
    """


def on_imports_done(listener: Callable[[], None]) -> None:
    """Calls `listener` after each slow import; it replaces an earlier listener."""
    _listeners[:] = [listener]


def imports_done() -> None:
    """Tells the listener that a slow import is over, so that the pool restarts the case's deadline."""
    for listener in _listeners:
        listener()


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Raises OverBudget after `seconds` of processor time; the pool's deadline ends a single long C call."""
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
