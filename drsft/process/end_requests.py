"""Handles signals that ask this process to end.

The first one starts the drain, if there is one; the next one raises KeyboardInterrupt; later ones are ignored
while the process exits, but one that comes more than ten seconds later exits at once.

timeout(1) sends SIGTERM twice within 200 microseconds, a closing terminal sends SIGHUP and its shell another
one, and a supervisor may send all three. A Python handler can itself be interrupted by the next signal, so
each step is guarded by a lock.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["END_REQUESTS", "SIGNALS", "EndRequests", "handlers_kept"]

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
SAME_REQUEST_S = 1.0  # signals this soon after the first are the same request
PATIENCE_S = 10.0  # a clean exit takes some seconds; a signal after that exits at once


class EndRequests:
    """Handles the signals of one process, which reach its main thread only."""

    def __init__(self) -> None:
        self._is_installed = False
        self._reset()

    def _reset(self) -> None:
        self.first: int | None = None  # the first signal that came
        self._drain: Callable[[], None] | None = None
        self._drained_by: Collection[int] = ()
        self._drained_s = self._ended_s = math.inf
        self._may_drain, self._may_end = threading.Lock(), threading.Lock()
        self._is_overdue = False
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles SIGTERM, SIGHUP and SIGINT within the block, except those that this process ignores.

        After a requested end they stay handled, since the process is about to exit with its own code.
        """
        if self._is_installed or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._reset()
        before = {one: signal.getsignal(one) for one in SIGNALS}
        mine = [one for one in SIGNALS if before[one] is not signal.SIG_IGN]
        self._is_installed = True
        for one in mine:
            signal.signal(one, self._heard)
        try:
            yield
        finally:
            self._is_installed = False
            if not self._may_end.locked():
                for one in mine:
                    signal.signal(one, before[one])

    @contextmanager
    def draining(self, drain: Callable[[], None], *, by: Collection[int] = SIGNALS[:2]) -> Iterator[None]:
        """Within the block, the first signal among `by` does not end the process but calls `drain`.

        `drain` starts the end of the work, and must not block. A second signal raises KeyboardInterrupt.
        """
        self._drain, self._drained_by = drain, by
        try:
            yield
        finally:
            self._drain = None
            if not self._may_drain.acquire(blocking=False):  # a drain began: no later signal interrupts
                self._begin_end()
            else:
                self._may_drain.release()

    def end(self) -> None:
        """Raises KeyboardInterrupt in the main thread, as a second signal would; no drain is started.

        Any thread may call it.
        """
        self._is_overdue = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _begin_end(self) -> bool:
        """Marks that this process is ending; returns False if it was already."""
        if self._may_end.acquire(blocking=False):
            self._ended_s = time.monotonic()
            return True
        return False

    def _heard(self, signum: int, frame: object) -> None:
        now_s = time.monotonic()
        self.first = self.first or signum
        if signum == signal.SIGHUP:
            self._leave_terminals()
        if signum in self._drained_by and not self._is_overdue:
            if self._drain is not None and self._may_drain.acquire(blocking=False):
                self._drained_s = now_s
                return self._drain()
            if self._may_drain.locked() and now_s < self._drained_s + SAME_REQUEST_S:
                return None
        if self._begin_end():
            raise KeyboardInterrupt(signal.Signals(self.first).name)
        if now_s > self._ended_s + PATIENCE_S:
            os._exit(128 + self.first)
        return None

    def _leave_terminals(self) -> None:
        """Stops writing to a terminal that is gone, which would make the remaining work fail."""
        for fd in self._terminals:
            if not os.isatty(fd):
                gone = os.open(os.devnull, os.O_WRONLY)
                os.dup2(gone, fd)
                os.close(gone)


END_REQUESTS = EndRequests()


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Keeps libraries from replacing a signal handler within the block: Ray installs one that exits at any
    point.

    Ray's C++ core installs its own below Python's, which would abort the process three seconds after a
    SIGTERM. So Python's handlers are installed again at the end.
    """
    module: Any = signal
    true = module.signal
    module.signal = lambda signum, handler: signal.getsignal(signum)
    try:
        yield
    finally:
        module.signal = true
        if threading.current_thread() is threading.main_thread():
            for one in SIGNALS:
                if (handler := signal.getsignal(one)) is not None:
                    signal.signal(one, handler)
