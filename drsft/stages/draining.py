"""SIGTERM while stages run: no shard is begun any more, those under way are committed, training saves."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

__all__ = ["draining"]


@contextmanager
def draining(board: Any, grace_s: float, console: Console) -> Iterator[None]:
    """Within the block SIGTERM makes the stages end by themselves; after `grace_s` they are interrupted.

    Ends with KeyboardInterrupt("SIGTERM") either way. A second SIGTERM interrupts at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    timer = threading.Timer(grace_s, os.kill, (os.getpid(), signal.SIGTERM))  # the second one, see below
    timer.daemon = True

    def begin(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, _interrupt)
        # Ray may be in the middle of something in this very thread, so another one talks to it.
        threading.Thread(target=board.drain.remote, daemon=True).start()
        timer.start()
        line = f"asked to end: finishing what is under way, {grace_s:g} s at most"
        console.print(line, highlight=False, soft_wrap=True)

    before = signal.signal(signal.SIGTERM, begin)
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt("SIGTERM")
