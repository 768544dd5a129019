"""Ends a process that lacks memory or threads, where it would otherwise live on and wait for ever.

An exception in a thread, in a callback or in a call from C only leaves a traceback in the log: whoever waits
for that thread or callback is not told. Where not even the first frame of Python finds room, as in Ray's
callback with an answer, there is no trace at all.
"""

import errno
import logging
import mmap
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["OnExhausted", "end_where_exhausted", "is_exhausted"]

PROBE_BYTES = 1 << 20  # what Python takes from the system at once
PROBE_EVERY_S = 5.0

OnExhausted = Callable[[BaseException], object]


def is_exhausted(error: BaseException | None) -> bool:
    """Returns whether an error says that memory, or another thread, could not be had."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno == errno.ENOMEM
        case RuntimeError():
            return "can't start new thread" in str(error)
    return False


def end_where_exhausted(end: OnExhausted) -> None:
    """Calls `end` whenever such an error ends a thread of this process, is dropped by a call from C, or is
    logged: asyncio, concurrent.futures and Ray do no more about an error in a callback. A thread also tries
    every few seconds whether memory can be had.

    Call it once the process's logs are set up.
    """
    of_threads, of_calls = threading.excepthook, sys.unraisablehook

    def thread_ends(found: threading.ExceptHookArgs) -> None:
        _print_and_end(of_threads, found, end, found.exc_value)

    def call_fails(found: "sys.UnraisableHookArgs") -> None:
        _print_and_end(of_calls, found, end, found.exc_value)

    threading.excepthook, sys.unraisablehook = thread_ends, call_fails
    for name in (None, "ray"):  # Ray's records do not reach the root
        logging.getLogger(name).addHandler(_EndingHandler(end))
    threading.Thread(target=_probe, args=(end,), name="memory-probe", daemon=True).start()


def _probe(end: OnExhausted) -> None:
    """Takes address space and gives it back at once: no memory is touched."""
    while True:
        time.sleep(PROBE_EVERY_S)
        try:
            mmap.mmap(-1, PROBE_BYTES).close()
        except (OSError, MemoryError) as error:
            end(error)


def _print_and_end(
    print_it: Callable[[Any], object], found: Any, end: OnExhausted, error: BaseException | None
) -> None:
    if error is None or not is_exhausted(error):
        print_it(found)
        return
    with suppress(Exception):  # printing wants memory, too
        print_it(found)
    end(error)


class _EndingHandler(logging.Handler):
    def __init__(self, end: OnExhausted) -> None:
        super().__init__(logging.ERROR)
        self._end = end

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and is_exhausted(error):
            self._end(error)
