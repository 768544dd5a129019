"""Drains the stages on SIGTERM or SIGHUP: shards in progress are committed, training saves a checkpoint.

No further shard is started.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console

from drsft.process.end_requests import END_REQUESTS

__all__ = ["draining"]


@contextmanager
def draining(board: Any, grace_s: float, console: Console) -> Iterator[None]:
    """Within the block, SIGTERM or SIGHUP drains the stages; after `grace_s` seconds they are interrupted.

    A second signal, or Ctrl-C, interrupts at once.
    """
    is_over = threading.Event()

    def drain() -> None:
        board.drain.remote()
        with suppress(OSError, ValueError):  # the terminal may have gone, or its stream been closed
            line = f"draining: finishing running work, {grace_s:g} s at most"
            console.print(line, highlight=False, soft_wrap=True)
        if not is_over.wait(grace_s):
            END_REQUESTS.end()

    def begin() -> None:
        # The main thread may be in the middle of Ray or of the console, so another one talks to them.
        threading.Thread(target=drain, name="drain", daemon=True).start()

    with END_REQUESTS.installed(), END_REQUESTS.draining(begin):
        try:
            yield
        finally:
            is_over.set()
