"""Checks rows on all cores. Results come in the order of the rows, as if they were checked one by one.

Rows are read ahead in chunks, which helper processes check. This process takes the next chunk itself where no
helper has begun it, so it never waits for a helper to start, and a file of few rows starts none. A helper
that dies costs only time: its chunk is checked here.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import drsft
from drsft.intake.checking import CheckedRows, RowRules, Rows, check_rows
from drsft.intake.rows import BadRow, Row

__all__ = ["check_in_order"]

CHUNK_ROWS = 128
CHUNKS_ALONE = 16  # the first ones: a helper takes half a second to start
CHUNKS_AHEAD = 3  # for each helper
HELPER = (sys.executable, "-P", "-m", "drsft.intake.helper")
MAX_HELPERS = 4  # what this process reads and writes keeps no more busy


def check_in_order(
    rows: Iterable[Row | BadRow], rules: RowRules, *, num_helpers: int | None = None
) -> Iterator[CheckedRows]:
    """The rows in chunks, each row checked. What reading raises is raised after the rows before it."""
    if num_helpers is None:
        num_helpers = min(len(os.sched_getaffinity(0)) - 1, MAX_HELPERS)
    chunks = _chunks(rows)
    for chunk in islice(chunks, CHUNKS_ALONE if num_helpers else None):
        yield check_rows(chunk, rules)
    if num_helpers:
        helpers = _Helpers(rules, num_helpers)
        try:
            yield from _checked_ahead(chunks, rules, helpers)
        finally:
            helpers.stop()


def _chunks(rows: Iterable[Row | BadRow]) -> Iterator[Rows]:
    iterator = iter(rows)
    while True:
        chunk: list[Row | BadRow] = []
        try:
            chunk.extend(islice(iterator, CHUNK_ROWS))
        except Exception:
            yield chunk
            raise
        if not chunk:
            return
        yield chunk


def _checked_ahead(chunks: Iterator[Rows], rules: RowRules, helpers: "_Helpers") -> Iterator[CheckedRows]:
    waiting: deque[tuple[Rows, Future[CheckedRows]]] = deque()
    failure: Exception | None = None
    is_at_end = False
    while True:
        while not is_at_end and len(waiting) <= helpers.number * CHUNKS_AHEAD:
            try:
                chunk = next(chunks, None)
            except Exception as error:  # of reading: its turn comes behind the rows before it
                chunk, failure = None, error
            if chunk is None:
                is_at_end = True
            else:
                waiting.append((chunk, helpers.submit(chunk)))
        if not waiting:
            break
        chunk, future = waiting.popleft()
        yield check_rows(chunk, rules) if future.cancel() else _result(chunk, future, rules)
    if failure is not None:
        raise failure


def _result(chunk: Rows, future: Future[CheckedRows], rules: RowRules) -> CheckedRows:
    try:
        return future.result()
    except (EOFError, OSError, pickle.UnpicklingError):  # the helper has died
        return check_rows(chunk, rules)


class _Helpers:
    """Processes that check rows, and a thread for each that talks to it; they start when they are needed."""

    def __init__(self, rules: RowRules, number: int) -> None:
        self.number = number
        self._rules = pickle.dumps(rules)
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="drsft-intake")
        self._of_thread = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []

    def submit(self, chunk: Rows) -> Future[CheckedRows]:
        return self._threads.submit(self._check, chunk)

    def stop(self) -> None:
        """Ends the processes and their threads, whatever they are doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            process.communicate()

    def _check(self, chunk: Rows) -> CheckedRows:
        """Raises OSError, EOFError or UnpicklingError where the helper does not live."""
        if not hasattr(self._of_thread, "process"):
            self._of_thread.process = self._start()
        process = self._of_thread.process
        pickle.dump(chunk, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        checked: CheckedRows = pickle.load(process.stdout)
        return checked

    def _start(self) -> "subprocess.Popen[bytes]":
        # The child must find the same drsft.
        path = os.pathsep.join([str(Path(drsft.__file__).parent.parent), *filter(None, sys.path)])
        process = subprocess.Popen(
            HELPER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # an interrupt at the terminal is this process's to handle
        )
        self._processes.append(process)
        assert process.stdin is not None
        process.stdin.write(self._rules)
        return process
