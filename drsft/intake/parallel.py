"""Checks rows on all cores. Results come in the order of the rows, as if they were checked one by one.

Rows are read ahead in chunks, which worker processes check. If no worker has begun the next chunk, this
process checks it itself, so it never waits for a worker to start, and a file of few rows starts none. If a
worker dies, its chunk is checked here.
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
from drsft.intake.formats.row import BadRow, JsonLine, Row
from drsft.intake.packed import packed_rows, unpacked_checks

__all__ = ["check_in_order"]

CHUNK_ROWS = 128
CHUNK_BYTES = 1 << 20  # a chunk of long rows has fewer
CHUNKS_ALONE = 16  # the first ones: a worker takes half a second to start
CHUNKS_AHEAD = 3  # for each worker
WORKER = (sys.executable, "-P", "-m", "drsft.intake.check_worker")
MAX_WORKERS = 4  # what this process reads and writes keeps no more busy


def check_in_order(
    rows: Iterable[Row | BadRow | JsonLine], rules: RowRules, *, num_workers: int | None = None
) -> Iterator[CheckedRows]:
    """Checks the rows, and yields the results in the order of the rows, those of several rows at a time.

    An error raised by reading `rows` is raised after the results of the rows before it. With
    `num_workers` 0, all is done in this process; None: one worker for each processor but one, up to
    MAX_WORKERS.
    """
    if num_workers is None:
        num_workers = min(len(os.sched_getaffinity(0)) - 1, MAX_WORKERS)
    chunks = _chunks(rows)
    for chunk in islice(chunks, CHUNKS_ALONE if num_workers else None):
        yield check_rows(chunk, rules)
    if num_workers:
        workers = _Workers(rules, num_workers)
        try:
            yield from _checked_ahead(chunks, rules, workers)
        finally:
            workers.stop()


def _chunks(rows: Iterable[Row | BadRow | JsonLine]) -> Iterator[Rows]:
    iterator = iter(rows)
    while True:
        chunk: list[Row | BadRow | JsonLine] = []
        num_bytes = 0
        try:
            for row in islice(iterator, CHUNK_ROWS):
                chunk.append(row)
                num_bytes += len(row.line) if isinstance(row, JsonLine) else 0
                if num_bytes > CHUNK_BYTES:
                    break
        except Exception:
            yield chunk
            raise
        if not chunk:
            return
        yield chunk


def _checked_ahead(chunks: Iterator[Rows], rules: RowRules, workers: "_Workers") -> Iterator[CheckedRows]:
    waiting: deque[_Checking] = deque()
    failure: Exception | None = None
    is_at_end = False
    while True:
        while not is_at_end and len(waiting) <= workers.number * CHUNKS_AHEAD:
            try:
                chunk = next(chunks, None)
            except Exception as error:  # a reading error, raised after the rows before it
                chunk, failure = None, error
            if chunk is None:
                is_at_end = True
            else:
                waiting.append(_Checking(chunk, workers.submit(chunk)))
        if not waiting:
            break
        _help_until_first(waiting, rules)
        yield waiting.popleft().result(rules)
    if failure is not None:
        raise failure


class _Checking:
    """A chunk whose rows are being checked, by a worker or in this process."""

    def __init__(self, chunk: Rows, future: Future[CheckedRows]) -> None:
        self._chunk = chunk
        self._future = future
        self._checked: CheckedRows | None = None

    @property
    def is_done(self) -> bool:
        return self._checked is not None or self._future.done()

    def begin_here(self, rules: RowRules) -> bool:
        """Checks the rows here, unless a worker has begun them or they are done; returns whether it did."""
        if self._checked is not None or not self._future.cancel():
            return False
        self._checked = check_rows(self._chunk, rules)
        return True

    def result(self, rules: RowRules) -> CheckedRows:
        if self._checked is None:
            try:
                self._checked = self._future.result()
            except (EOFError, OSError, pickle.UnpicklingError):  # the worker has died
                self._checked = check_rows(self._chunk, rules)
        return self._checked


def _help_until_first(waiting: deque[_Checking], rules: RowRules) -> None:
    """Checks chunks that no worker has begun, until the first one is done or all others are begun."""
    while not waiting[0].is_done and any(one.begin_here(rules) for one in waiting):
        pass


class _Workers:
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
        """Stops the processes and their threads at once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            process.communicate()

    def _check(self, chunk: Rows) -> CheckedRows:
        """Checks a chunk in this thread's worker.

        Raises OSError, EOFError or UnpicklingError if the worker is dead.
        """
        if not hasattr(self._of_thread, "process"):
            self._of_thread.process = self._start()
        process = self._of_thread.process
        pickle.dump(packed_rows(chunk), process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        return unpacked_checks(pickle.load(process.stdout))

    def _start(self) -> "subprocess.Popen[bytes]":
        # The child must find the same drsft.
        path = os.pathsep.join([str(Path(drsft.__file__).parent.parent), *filter(None, sys.path)])
        process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # only this process handles an interrupt from the terminal
        )
        self._processes.append(process)
        assert process.stdin is not None
        process.stdin.write(self._rules)
        return process
