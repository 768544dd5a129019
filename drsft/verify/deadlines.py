"""Limits the time of symbolic algebra in a worker, and tells the pool when a slow import is over.

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
    """Symbolic algebra used up its processor time. It derives from BaseException, because sympy catches
    Exception in many places.
    """


def on_imports_done(listener: Callable[[], None]) -> None:
    """Sets the function that is called after each slow import (sympy, pint), in place of an earlier one."""
    _listeners[:] = [listener]


def imports_done() -> None:
    """Calls the listener when a slow import is over, so that the pool restarts the case's deadline."""
    for listener in _listeners:
        listener()


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Raises OverBudget in its block after `seconds` of processor time; outside a worker there is no limit.

    It cannot interrupt a single long C call; the pool's deadline does.
    """
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
