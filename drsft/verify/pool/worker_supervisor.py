"""Supervises one worker process in one thread.

The thread sends up to DEPTH cases before their replies, so that the worker never waits for the next one.
Replies come in the order of the cases, so the worker is judging the oldest unanswered case, whose deadline is
counted from the moment when it became the oldest. A worker that passes the deadline is killed: that case is
UNJUDGED, and the cases behind it are sent again.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from drsft.errors import StageError
from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.options import VerifyOptions
from drsft.verify.pool.messages import decode_reply, encode_case
from drsft.verify.pool.worker_process import WorkerProcess

__all__ = ["Job", "WorkerSupervisor"]

DEPTH = 16  # cases in flight for one worker; more gains nothing and makes a kill dearer
START_LIMIT_S = 60.0  # for Python's start or sympy's import on a busy machine
CODE_MARGIN_S = 5.0  # to start a sandbox and to remove it


@dataclass(slots=True)
class Job:
    """A case and the future of its verdict."""

    case: Case
    num_deaths: int = 0  # workers that died at this case; another program may have killed the first
    future: "Future[Verdict]" = field(default_factory=Future)


class WorkerSupervisor:
    """Feeds one worker from the pool's queue, delivers its verdicts, and replaces it when it fails."""

    def __init__(
        self,
        jobs: "queue.SimpleQueue[Job | None]",
        options: VerifyOptions,
        timeout_s: float,
        memory_limit_bytes: int,
        cases_per_worker: int,
        on_failure: Callable[[BaseException], StageError],
    ) -> None:
        """`on_failure` is called if the thread cannot go on; it returns what its cases' futures get."""
        self._jobs = jobs
        self._options = options
        self._timeout_s = timeout_s
        self._memory_limit_bytes = memory_limit_bytes
        self._cases_per_worker = cases_per_worker
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name="drsft-verify", daemon=True)
        self._stopping = threading.Event()
        self._worker: WorkerProcess | None = None
        self._is_starting = False  # the worker has not reported yet that it has started
        self._is_symbolic = False  # some case needed sympy, so the next worker loads it as it starts
        self._deadline = 0.0  # of the case that the worker is judging, on the monotonic clock
        self._to_send: deque[Job] = deque()  # taken, or sent to a worker that was killed at another case
        self._in_flight: deque[tuple[Job, int]] = deque()  # sent, unanswered, with their size in bytes

    @property
    def pid(self) -> int | None:
        worker = self._worker
        return worker.process.pid if worker is not None else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Kills the worker: its case becomes UNJUDGED. The thread ends at the next None in the queue."""
        self._stopping.set()
        worker = self._worker
        if worker is not None and worker.process.poll() is None:
            worker.process.kill()

    def join(self) -> None:
        if self._thread.ident is not None:  # else it could not be started
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._send_cases()
                if not self._stopping.is_set():
                    self._deliver_replies()
        except BaseException as error:  # no process could be started, or there is no memory
            failure = self._on_failure(error)
            for job in self._unanswered():
                job.future.set_exception(failure)
        finally:
            self._discard_worker()
            for job in self._unanswered():
                _resolve(job, Verdict(outcome=Outcome.UNJUDGED, reason="pool closed"))

    def _unanswered(self) -> list[Job]:
        jobs = [*(job for job, _ in self._in_flight), *self._to_send]
        return [job for job in jobs if not job.future.done()]

    def _send_cases(self) -> None:
        """Sends as many cases as fit; blocks only when none is in flight."""
        batch: list[bytes] = []
        while len(self._in_flight) < DEPTH and self._has_next(waits=not self._in_flight):
            line = encode_case(self._to_send[0].case)
            if not self._fits_pipe(line):
                break
            batch.append(line)
            self._in_flight.append((self._to_send.popleft(), len(line)))
        if not batch or self._stopping.is_set():
            return
        if len(self._in_flight) == len(batch):
            self._restart_deadline()
        with contextlib.suppress(BrokenPipeError):  # it died between two cases; the next read reports its end
            self._ready_worker().send(b"".join(batch))

    def _has_next(self, *, waits: bool) -> bool:
        """Takes a job from the queue if need be. Returns False if there is none now, or the pool closes."""
        while not self._to_send:
            try:
                job = self._jobs.get(block=waits)
            except queue.Empty:
                return False
            if job is None:
                self._stopping.set()
                return False
            if job.future.set_running_or_notify_cancel():
                self._to_send.append(job)
        return True

    def _fits_pipe(self, line: bytes) -> bool:
        """Returns whether writing the case cannot block on a worker that hangs in an earlier one.

        Unread cases must stay within the pipe's capacity. A single case may be larger, since the worker is
        then reading.
        """
        if not self._in_flight:
            return True
        num_bytes = sum(size for _, size in self._in_flight) + len(line)
        return num_bytes <= self._ready_worker().pipe_bytes // 2

    def _deliver_replies(self) -> None:
        """Delivers the replies that have come.

        Replaces a worker that died, timed out or has judged its share.
        """
        worker = self._ready_worker()
        try:
            lines = worker.read_lines(self._deadline - time.monotonic())
        except EOFError:
            self._handle_worker_death(worker)
            return
        if not lines:
            self._fail_current_case(f"time limit of {self._limit_s():g} s")
            return
        for line in lines:
            reply = decode_reply(line)
            if reply is None:
                self._is_symbolic = True
                self._restart_deadline()
                continue
            job, _ = self._in_flight.popleft()
            self._restart_deadline()
            _resolve(job, reply.verdict)
            worker.num_judged += 1
            if reply.is_worker_spent:
                self._replace_worker()
                return
        if worker.num_judged >= self._cases_per_worker:
            self._replace_worker()

    def _handle_worker_death(self, worker: WorkerProcess) -> None:
        """Sends the case again after a first death, which may have another cause; else makes it UNJUDGED."""
        if self._in_flight and self._in_flight[0][0].num_deaths == 0 and not self._stopping.is_set():
            self._in_flight[0][0].num_deaths += 1
            self._replace_worker()
        else:
            self._fail_current_case(f"verifier process died{worker.cause_of_death()}")

    def _limit_s(self) -> float:
        """Returns the time limit of the case that the worker is judging.

        Code has its own limit, which its sandbox enforces.
        """
        if self._in_flight and self._in_flight[0][0].case.kind == "code":
            return max(self._timeout_s, self._options.code_timeout_s + CODE_MARGIN_S)
        return self._timeout_s

    def _restart_deadline(self) -> None:
        self._deadline = time.monotonic() + self._limit_s()

    def _fail_current_case(self, reason: str) -> None:
        if self._in_flight:
            job, _ = self._in_flight.popleft()
            _resolve(job, Verdict(outcome=Outcome.UNJUDGED, reason=reason))
        self._replace_worker()

    def _replace_worker(self) -> None:
        """Starts a new worker at once, so that it starts and imports while no case waits for it."""
        self._to_send.extendleft(job for job, _ in reversed(self._in_flight))
        self._in_flight.clear()
        self._discard_worker()
        if not self._stopping.is_set():
            self._start_worker()

    def _discard_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()

    def _start_worker(self) -> WorkerProcess:
        self._worker = WorkerProcess(self._options, self._memory_limit_bytes, is_symbolic=self._is_symbolic)
        self._is_starting = True
        if self._stopping.is_set():
            self._worker.process.kill()
        return self._worker

    def _ready_worker(self) -> WorkerProcess:
        """Returns the worker once it has started; if it died at its start, the next read fails."""
        worker = self._worker or self._start_worker()
        if self._is_starting:
            self._is_starting = False
            with contextlib.suppress(EOFError):
                worker.read_lines(START_LIMIT_S)
            self._restart_deadline()
        return worker


def _resolve(job: Job, verdict: Verdict) -> None:
    if not job.future.done():
        job.future.set_result(verdict)
