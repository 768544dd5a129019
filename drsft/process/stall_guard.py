"""Finds out that a process has work and gets no further, whatever the reason.

A lost wake-up, an event loop or a thread that has ended, and a call that never returns raise no error.
"""

import faulthandler
import sys
import threading
from collections.abc import Callable, Hashable

__all__ = ["StallGuard"]

CHECKS = 20  # within the limit


class StallGuard:
    """Prints the stack of every thread and calls `on_stall`, once `signs` has not changed for `limit_s`.

    `signs` returns what changes as work advances, and None while there is no work. Time is counted in checks
    by a thread of this process, so it stands still while the process is suspended.
    """

    def __init__(
        self, signs: Callable[[], Hashable], on_stall: Callable[[float], object], *, limit_s: float
    ) -> None:
        self._signs, self._on_stall, self._limit_s = signs, on_stall, limit_s
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="stall-guard", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        before, num_equal = self._signs(), 0
        while not self._closed.wait(self._limit_s / CHECKS):
            signs = self._signs()
            num_equal = num_equal + 1 if signs is not None and signs == before else 0
            before = signs
            if num_equal >= CHECKS:
                faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
                self._on_stall(self._limit_s)
                num_equal = 0
