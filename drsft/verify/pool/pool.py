"""Judges in processes that can be killed, behind one awaitable method.

One thread supervises each worker process: it sends the cases, times the current one, and replaces a worker
that hangs, crashes, runs out of memory or has judged its number of cases. Futures carry the verdicts back, so
a pool serves any event loop, several one after the other, or none (`submit`); it needs no signal, no child
watcher and no fork, and works inside Ray actors, Serve replicas and programs full of threads.
"""

import asyncio
import queue
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from types import TracebackType

from drsft.config import Verification
from drsft.errors import StageError
from drsft.records import Outcome, Problem, StepReport, Verdict
from drsft.verify.case import Case, case_of
from drsft.verify.kinds import BY_MODEL, check_kind
from drsft.verify.model_judge import ModelJudge
from drsft.verify.options import VerifyOptions
from drsft.verify.pool.direct import direct_verdict
from drsft.verify.pool.worker_supervisor import Job, WorkerSupervisor

__all__ = ["VerifierPool"]

MODEL_THREADS = 16  # requests that wait for the judge's server at once
TRUNCATED = Verdict(outcome=Outcome.TRUNCATED, reason="cut off before its end")


class VerifierPool:
    """A `Verifier` that judges in `num_workers` processes.

    `timeout_s` is one case's limit; `memory_limit_bytes` a worker's address space; a worker is replaced after
    `cases_per_worker` cases; at most `max_pending` calls of `judge` are in progress, and further ones wait.
    Verdicts are cached by content, the last `cache_size` of them; UNJUDGED ones are not, since the machine
    may have been busy. Workers start with the first case. Close it, or use it as an (async) context manager.
    """

    def __init__(
        self,
        *,
        num_workers: int = 1,
        timeout_s: float = 5.0,
        memory_limit_bytes: int = 2 << 30,
        cases_per_worker: int = 10_000,
        max_pending: int = 1024,
        cache_size: int = 100_000,
        options: VerifyOptions | None = None,
    ) -> None:
        self.options = options or VerifyOptions()
        self._max_pending = max_pending
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, Verdict] = OrderedDict()
        self._lock = threading.Lock()  # guards the cache, the start and the close
        self._slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._slots = weakref.WeakKeyDictionary()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._supervisors = [
            WorkerSupervisor(
                self._jobs, self.options, timeout_s, memory_limit_bytes, cases_per_worker, self._fail
            )
            for _ in range(num_workers)
        ]
        self._model: ModelJudge | None = None
        self._model_threads: ThreadPoolExecutor | None = None
        self._is_started = False
        self._is_closed = False
        self._failure: StageError | None = None

    @classmethod
    def from_config(cls, config: Verification, *, num_workers: int) -> "VerifierPool":
        return cls(
            num_workers=num_workers,
            timeout_s=config.timeout_s,
            memory_limit_bytes=config.memory_limit_mib << 20,
            options=VerifyOptions.from_config(config),
        )

    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        """Returns the verdict.

        Raises StageError if a worker could not be started for lack of memory or threads, ConfigError for an
        unknown kind, and RuntimeError if the pool is closed.
        """
        if is_truncated:
            return TRUNCATED
        if self._is_closed:
            raise RuntimeError("this VerifierPool is closed")
        case = case_of(problem, text)
        if (verdict := direct_verdict(case, self.options)) is not None:
            return verdict
        key = _key_of(case)
        if (known := self._recall(key)) is not None:
            return known
        async with self._slot():
            return await asyncio.wrap_future(self._enqueue(case, key))

    async def check_steps(self, text: str) -> StepReport:
        """Checks the equations of a text in a worker; the report is empty if the text cannot be checked."""
        problem = Problem(problem_id="", question="", demonstration="", reference="", kind="steps")
        verdict = await self.judge(problem, text)
        return verdict.steps or StepReport(num_read=0, num_failed=0)

    def submit(self, problem: Problem, text: str) -> "Future[Verdict]":
        """Returns a future of the verdict, for callers without an event loop.

        There is no backpressure: the caller has to bound what it submits.
        """
        case = case_of(problem, text)
        key = _key_of(case)
        if (known := self._recall(key)) is not None:
            future: Future[Verdict] = Future()
            future.set_result(known)
            return future
        return self._enqueue(case, key)

    def close(self) -> None:
        """Kills the workers and waits for them; waiting cases become UNJUDGED. May be called twice."""
        with self._lock:
            was_open, self._is_closed = not self._is_closed, True
        if was_open and self._is_started:
            for supervisor in self._supervisors:
                supervisor.stop()
            for _ in self._supervisors:
                self._jobs.put(None)
            for supervisor in self._supervisors:
                supervisor.join()
        if self._model_threads is not None:
            self._model_threads.shutdown(wait=False, cancel_futures=True)
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_result(Verdict(outcome=Outcome.UNJUDGED, reason="pool closed"))

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> "VerifierPool":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the live workers, for tests and diagnosis."""
        return [supervisor.pid for supervisor in self._supervisors if supervisor.pid is not None]

    def _slot(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if loop not in self._slots:
            self._slots[loop] = asyncio.Semaphore(self._max_pending)
        return self._slots[loop]

    def _enqueue(self, case: Case, key: bytes) -> "Future[Verdict]":
        check_kind(case.kind, self.options)
        if case.kind == BY_MODEL and case.kind not in self.options.custom:
            return self._ask_model(case, key)
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this VerifierPool is closed")
            if not self._is_started:
                self._is_started = True
                self._start()
            if self._failure is not None:
                raise self._failure
            job = Job(case)
            self._jobs.put(job)
        job.future.add_done_callback(lambda done: self._remember(key, done))
        return job.future

    def _start(self) -> None:
        try:
            for supervisor in self._supervisors:
                supervisor.start()
        except RuntimeError as error:
            self._failure = _failure_of(error)

    def _fail(self, error: BaseException) -> StageError:
        """Fails all waiting cases and all later ones; a supervisor calls it before its thread ends."""
        failure = _failure_of(error)
        with self._lock:
            self._failure = failure
        with suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(failure)
            self._jobs.put(None)  # the pool is closing: it is another supervisor's
        return failure

    def _ask_model(self, case: Case, key: bytes) -> "Future[Verdict]":
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this VerifierPool is closed")
            if self._model is None:
                self._model = ModelJudge(self.options)
                self._model_threads = ThreadPoolExecutor(MODEL_THREADS, thread_name_prefix="drsft-judge")
            assert self._model_threads is not None
            future = self._model_threads.submit(self._model, case)
        future.add_done_callback(lambda done: self._remember(key, done))
        return future

    def _recall(self, key: bytes) -> Verdict | None:
        with self._lock:
            verdict = self._cache.get(key)
            if verdict is not None:
                self._cache.move_to_end(key)
            return verdict

    def _remember(self, key: bytes, done: "Future[Verdict]") -> None:
        if done.cancelled() or done.exception() is not None or done.result().outcome is Outcome.UNJUDGED:
            return
        with self._lock:
            self._cache[key] = done.result()
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)


def _failure_of(error: BaseException) -> StageError:
    failure = StageError(f"the verifier cannot go on: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _key_of(case: Case) -> bytes:
    digest = blake2b(digest_size=16)
    for part in (case.kind, case.question, case.reference, case.text):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
