"""Raises KeyboardInterrupt in the main thread from another thread, even while it waits inside Ray."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupt", "interruptible"]


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yields an event: `interrupt(event)` raises KeyboardInterrupt on the main thread within the block.

    It does so even in a process that ignores SIGINT, as a shell's background jobs do. If the block runs in
    another thread, `interrupt` only sets the event and sends the process an ordinary SIGINT.
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
