"""Interrupts the main thread's work from another thread, as Ctrl-C does: it may be waiting inside Ray."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupt", "interruptible"]


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Within the block, on the main thread, `interrupt` of the event raises KeyboardInterrupt there.

    It does so even in a process that ignores SIGINT, as a shell's background jobs do. In another thread, the
    event is set and the main thread, the only one that receives signals, gets an ordinary SIGINT.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(signum: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        if callable(before):
            before(signum, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt(asked: threading.Event) -> None:
    asked.set()
    os.kill(os.getpid(), signal.SIGINT)
