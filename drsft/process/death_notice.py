"""Prints an error line when a driver is killed and can no longer print one itself.

Ray exits a driver from within C++, with code 1, when its cluster's head or its own node is lost; the system
kills one that takes too much memory with SIGKILL. So a small child process waits, and prints the line unless
the driver reports a normal end.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from drsft.process.logs import JsonStream, wants_json

__all__ = ["notice_if_killed"]

LINE = (
    "error: the driver was killed: Ray lost its head or this node, or the system ran out of memory; "
    "run the same command to resume"
)


@contextmanager
def notice_if_killed() -> Iterator[None]:
    """Prints a line to stderr if this process is killed inside the block, where no Python code can react."""
    child = subprocess.Popen(
        [sys.executable, "-m", "drsft.process.death_notice"],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the driver's alone
    )
    try:
        yield
    finally:
        child.communicate(b".")  # which ignores a killed child


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of a container that ends; the pipe tells when
    if not sys.stdin.buffer.read(1):
        stream = JsonStream(sys.stderr, level=logging.ERROR) if wants_json() else sys.stderr
        stream.write(f"{LINE}\n")


if __name__ == "__main__":
    main()
