"""One thread that tends one worker process.

Cases are sent ahead of the reply (up to DEPTH of them), so the worker never waits for us; replies come in
order, so the oldest unanswered case is the one it is at, and its clock runs from the moment it became that.
A worker that overruns is killed: that case is UNJUDGED, those sent behind it are innocent and sent again.
"""

import contextlib
import fcntl
import os
import queue
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import drsft
from drsft.records import Outcome, Verdict
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case, decode_reply, encode_case

__all__ = ["Job", "Tender"]

DEPTH = 16  # cases in flight for one worker; more gains nothing and makes a kill dearer
START_LIMIT_S = 60.0  # for Python's start or sympy's import on a busy machine
F_GETPIPE_SZ = 1032  # linux/fcntl.h; in Python's fcntl since 3.10, but only on Linux
CODE_MARGIN_S = 5.0  # to start and clear away a sandbox
READ_BYTES = 1 << 16


@dataclass(slots=True)
class Job:
    case: Case
    num_deaths: int = 0  # workers that died at this case; the first may be somebody else's kill
    future: "Future[Verdict]" = field(default_factory=Future)


class Worker:
    """The process and its two pipes."""

    def __init__(self, options: VerifyOptions, memory_limit_bytes: int, *, is_symbolic: bool) -> None:
        # The child must find the same drsft and the user's own modules (custom verifiers).
        root = str(Path(drsft.__file__).parent.parent)
        path = os.pathsep.join([root, *(entry for entry in sys.path if entry)])
        # Sandboxes live in here, so that a worker that is killed leaves none behind. The first one makes it:
        # whoever judges no code leaves nothing to clean up, even when this process is killed itself.
        self.folder = os.path.join(tempfile.gettempdir(), f"drsft-verify-{uuid.uuid4().hex}")
        command = [sys.executable, "-P", "-m", "drsft.verify.worker"]
        preload = "symbolic" if is_symbolic else "plain"
        arguments = [options.to_json(), str(memory_limit_bytes), str(os.getpid()), preload]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path, "DRSFT_SANDBOXES": self.folder},
            start_new_session=True,  # a kill of the group takes the sandboxes of code cases along
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.poll = select.poll()
        self.poll.register(self.replies, select.POLLIN)
        self.pipe_bytes = fcntl.fcntl(self.requests, F_GETPIPE_SZ) if sys.platform == "linux" else 4096
        self.num_judged = 0
        self._pending = b""

    def send(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[os.write(self.requests.fileno(), view) :]

    def read_lines(self, timeout_s: float) -> list[bytes]:
        """Complete lines as soon as there are any; [] after the time; EOFError when the worker is gone."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not self.poll.poll(left_ms):
                return []
            data = os.read(self.replies.fileno(), READ_BYTES)
            if not data:
                raise EOFError
            self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        return lines

    def kill(self) -> None:
        """Kill the worker with its group and reap it."""
        try:
            os.killpg(self.process.pid, 9)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.requests.close()
        self.replies.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Tender:
    def __init__(
        self,
        jobs: "queue.SimpleQueue[Job | None]",
        options: VerifyOptions,
        timeout_s: float,
        memory_limit_bytes: int,
        cases_per_worker: int,
    ) -> None:
        self._jobs = jobs
        self._options = options
        self._timeout_s = timeout_s
        self._memory_limit_bytes = memory_limit_bytes
        self._cases_per_worker = cases_per_worker
        self._thread = threading.Thread(target=self._run, name="drsft-verify", daemon=True)
        self._stopping = threading.Event()
        self._worker: Worker | None = None
        self._is_awaited = False  # the worker has not said yet that it is up
        self._is_symbolic = False  # some case needed sympy, so the next worker loads it before it is up
        self._deadline = 0.0  # when the case that the worker is at must be done
        self._resend: deque[Job] = deque()  # innocent victims of a kill
        self._flying: deque[tuple[Job, int]] = deque()  # sent, unanswered, with their size in bytes

    @property
    def pid(self) -> int | None:
        worker = self._worker
        return worker.process.pid if worker is not None else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Make the running case fail now; the thread ends at the next None in the queue."""
        self._stopping.set()
        worker = self._worker
        if worker is not None and worker.process.poll() is None:
            worker.process.kill()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._feed():
                    return
                self._harvest()
        finally:
            self._retire()
            for job in (*(job for job, _ in self._flying), *self._resend):
                _resolve(job, Verdict(outcome=Outcome.UNJUDGED, reason="pool closed"))

    def _feed(self) -> bool:
        """Send what fits ahead; block only when nothing is in flight. False: the pool is closing."""
        batch: list[bytes] = []
        num_bytes = sum(size for _, size in self._flying)
        while len(self._flying) < DEPTH:
            is_idle = not self._flying
            if self._resend:
                job = self._resend.popleft()
            else:
                try:
                    next_job = self._jobs.get(block=is_idle)
                except queue.Empty:
                    break
                if next_job is None:
                    return False
                job = next_job
                if not job.future.set_running_or_notify_cancel():
                    continue
            line = encode_case(job.case)
            # A write must never block on a worker that hangs in an earlier case, so what is unread stays
            # within the pipe's capacity. A lone case may be larger: the worker is then reading.
            if not is_idle and num_bytes + len(line) > self._ready_worker().pipe_bytes // 2:
                self._resend.appendleft(job)
                break
            batch.append(line)
            num_bytes += len(line)
            self._flying.append((job, len(line)))
        if batch:
            if len(self._flying) == len(batch):
                self._restart_clock()
            with contextlib.suppress(BrokenPipeError):  # it died between two cases; the harvest sees the end
                self._ready_worker().send(b"".join(batch))
        return True

    def _harvest(self) -> None:
        """Deliver the replies that are there; replace the worker when a case overruns or kills it."""
        worker = self._ready_worker()
        try:
            lines = worker.read_lines(self._deadline - time.monotonic())
        except EOFError:
            self._mourn(worker)
            return
        if not lines:
            self._blame(f"time limit of {self._limit_s():g} s")
            return
        for line in lines:
            verdict = decode_reply(line)
            if verdict is None:
                self._is_symbolic = True
                self._restart_clock()
                continue
            job, _ = self._flying.popleft()
            self._restart_clock()
            _resolve(job, verdict)
            worker.num_judged += 1
            if verdict.outcome is Outcome.UNJUDGED and verdict.reason == "memory limit":
                self._replace()
                return
        if worker.num_judged >= self._cases_per_worker:
            self._replace()

    def _mourn(self, worker: Worker) -> None:
        """A death is blamed on the case only when it happens twice: the machine kills innocents too."""
        if self._flying and self._flying[0][0].num_deaths == 0 and not self._stopping.is_set():
            self._flying[0][0].num_deaths += 1
            self._replace()
        else:
            self._blame(f"verifier process died{_cause(worker)}")

    def _limit_s(self) -> float:
        """The limit of the case that the worker is at; code has its own, and its sandbox enforces it."""
        if self._flying and self._flying[0][0].case.kind == "code":
            return max(self._timeout_s, self._options.code_timeout_s + CODE_MARGIN_S)
        return self._timeout_s

    def _restart_clock(self) -> None:
        self._deadline = time.monotonic() + self._limit_s()

    def _blame(self, reason: str) -> None:
        if self._flying:
            job, _ = self._flying.popleft()
            _resolve(job, Verdict(outcome=Outcome.UNJUDGED, reason=reason))
        self._replace()

    def _replace(self) -> None:
        """A new worker at once: it starts, and loads what the last one needed, while nobody waits for it."""
        self._resend.extendleft(job for job, _ in reversed(self._flying))
        self._flying.clear()
        self._retire()
        if not self._stopping.is_set():
            self._start_worker()

    def _retire(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()

    def _start_worker(self) -> Worker:
        self._worker = Worker(self._options, self._memory_limit_bytes, is_symbolic=self._is_symbolic)
        self._is_awaited = True
        if self._stopping.is_set():
            self._worker.process.kill()
        return self._worker

    def _ready_worker(self) -> Worker:
        worker = self._worker or self._start_worker()
        if self._is_awaited:
            self._is_awaited = False
            with contextlib.suppress(EOFError):  # dead on arrival: the next read says so again, and blames
                worker.read_lines(START_LIMIT_S)
            self._restart_clock()
        return worker


def _resolve(job: Job, verdict: Verdict) -> None:
    if not job.future.done():
        job.future.set_result(verdict)


def _cause(worker: Worker) -> str:
    try:
        code = worker.process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return ""
    return f" (signal {-code})" if code < 0 else f" (exit code {code})"
