"""What is said when a driver ends without being able to speak.

Ray ends a driver from within C++, with code 1, when its cluster's head or its own node is gone; the system
ends one that takes too much memory with SIGKILL. So a small process stays beside it, and speaks if the driver
has not said that it ends in order.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from drsft.process.logs import JsonStream, wants_json

__all__ = ["last_word"]

LINE = (
    "error: ended from outside: by Ray, whose head or node here is gone, or by the system, for want of "
    "memory; the same command goes on from here"
)


@contextmanager
def last_word() -> Iterator[None]:
    """Within the block an end of this process that no Python code sees is told on what is stderr now."""
    child = subprocess.Popen(
        [sys.executable, "-m", "drsft.process.death_notice"],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the driver's alone
    )
    try:
        yield
    finally:
        child.communicate(b".")  # which passes over a child that was killed


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of a container that ends; the pipe tells when
    if not sys.stdin.buffer.read(1):
        stream = JsonStream(sys.stderr, level=logging.ERROR) if wants_json() else sys.stderr
        stream.write(f"{LINE}\n")


if __name__ == "__main__":
    main()
