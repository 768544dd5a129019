"""Runs a thread that steps an engine while asyncio callers wait for their requests.

The engine is built and stepped in the loop's own thread; other threads only read its state. OpenMP keeps its
settings per thread. On a CPU, if another thread than the one that built a vLLM engine steps it, two cores are
idle for a sixth of the time.
"""

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from drsft.errors import InputError, StageError

__all__ = [
    "Cancellation",
    "EngineCounts",
    "EngineLoop",
    "EngineRequest",
    "Settled",
    "SteppedEngine",
    "Stepping",
    "check_token_ids",
    "first_line",
    "refusal",
    "settle",
]

Result = Any  # what a request's future gets: completions, or an exception


class EngineRequest(Protocol):
    """A request to the engine. The caller waits for `future`, which belongs to the asyncio event loop
    `loop`.
    """

    @property
    def request_id(self) -> str: ...

    @property
    def future(self) -> asyncio.Future[Any]: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """How many tokens and samples an engine has made so far; `num_in_flight` counts its unfinished
    samples.
    """

    num_tokens: int
    num_in_flight: int
    num_done: int  # samples, those that were stopped too


class SteppedEngine(Protocol):
    """The interface of an engine that an EngineLoop steps.

    Other threads than the loop's may only call `is_idle`, `counts` and `unfinished`.
    """

    @property
    def is_idle(self) -> bool:
        """Whether the engine has no unfinished requests."""
        ...

    def add(self, request: Any) -> None:
        """Accepts a request; a later step sets the result or the error of its future.

        An error raised here fails that request only.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """Stops a request and frees what it uses in the engine; does nothing if the request has ended."""
        ...

    def step(self) -> None:
        """Advances all requests by one step and sets the results of those that end.

        An error raised here stops the engine and fails all its requests.
        """
        ...

    def counts(self) -> EngineCounts:
        """Returns how much the engine has sampled so far.

        Another thread may call it during a step: a sample that ends just then may be missing or counted
        twice.
        """
        ...

    def unfinished(self) -> Sequence[EngineRequest]:
        """Returns all requests that were added and have neither ended nor been cancelled."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Stepping(Protocol):
    """What an engine steps for: `busy_s`, the seconds spent in steps so far, grows with each step."""

    @property
    def busy_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Cancellation:
    request_id: str


EngineT = TypeVar("EngineT", bound=SteppedEngine)


class EngineLoop(Generic[EngineT]):
    """Steps the engine that `build` returns, in a thread of its own; the constructor raises what `build`
    raises.

    The future of every added request gets a result from the engine, an InputError if the engine rejects the
    request, or a StageError if the engine has failed; it stays pending if `close` comes first. `name` names
    the engine in messages.
    """

    def __init__(self, build: Callable[[], EngineT], *, name: str) -> None:
        self._name = name
        self._ids = itertools.count()
        self._inbox: queue.SimpleQueue[EngineRequest | Cancellation | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._active_s = time.monotonic()  # when the thread last took a message or ended a step
        self.busy_s = 0.0  # spent in steps so far
        started: Future[EngineT] = Future()
        self._thread = threading.Thread(target=self._run, args=(build, started), name=name, daemon=True)
        self._thread.start()
        self.engine = started.result()

    def new_request_id(self) -> str:
        return str(next(self._ids))

    def add(self, request: EngineRequest) -> None:
        self._inbox.put(request)

    def cancel(self, request_id: str) -> None:
        self._inbox.put(Cancellation(request_id))

    def check(self, *, max_silence_s: float) -> None:
        """Raises StageError if the engine has failed, or if it has requests but has completed no step for
        `max_silence_s` seconds.
        """
        if self._failure is not None or not self._thread.is_alive():
            raise self._death()
        silence_s = time.monotonic() - self._active_s
        if not self.engine.is_idle and silence_s > max_silence_s:
            raise StageError(f"the {self._name} has made no step for {silence_s:.0f} s")

    def close(self) -> None:
        """Stops the thread and frees the engine; the futures of unfinished requests never get a result."""
        self._inbox.put(None)
        self._thread.join()
        self.engine.close()
        del self.engine

    def _run(self, build: Callable[[], EngineT], started: "Future[EngineT]") -> None:
        try:
            engine = build()
        except BaseException as error:  # the constructor raises it in the caller's thread
            started.set_exception(error)
            return
        started.set_result(engine)
        try:
            while self._take_messages(engine):
                began_s = time.monotonic()
                if not engine.is_idle:
                    engine.step()
                self._active_s = time.monotonic()
                self.busy_s += self._active_s - began_s
        except BaseException as error:  # a Rust panic is not an Exception; all callers must get it
            self._failure = error
            self._fail_all(engine.unfinished())

    def _fail_all(self, unfinished: Iterable[EngineRequest]) -> None:
        """Fails the engine's unfinished requests and, until the loop is closed, all later ones."""
        for request in unfinished:
            settle([(request, self._death())])
        while (message := self._inbox.get()) is not None:
            if not isinstance(message, Cancellation):
                settle([(message, self._death())])

    def _death(self) -> StageError:
        cause = self._failure
        reason = f"{type(cause).__name__}: {first_line(cause)}" if cause is not None else "its thread ended"
        death = StageError(f"the {self._name} died: {reason}")
        death.__cause__ = cause
        return death

    def _take_messages(self, engine: EngineT) -> bool:
        """Passes all queued messages to the engine, and waits only while it is idle.

        Returns False if the loop is to close, else True.
        """
        while True:
            try:
                message = self._inbox.get(block=engine.is_idle)
            except queue.Empty:
                return True
            self._active_s = time.monotonic()  # it may have waited long for this message
            match message:
                case None:
                    return False
                case Cancellation(request_id=request_id):
                    engine.cancel(request_id)
                case request:
                    self._add(engine, request)

    def _add(self, engine: EngineT, request: EngineRequest) -> None:
        """Adds a request.

        To reject one, vLLM raises ValueError, TypeError, VLLMError or a Rust panic (not an Exception).
        """
        try:
            engine.add(request)
        except BaseException as error:
            settle([(request, refusal(error))])


def refusal(error: BaseException) -> InputError:
    """Returns the InputError for a request that the engine rejected with `error`.

    It is `error` itself if that is an InputError, else a new one with the first line of the error's message.
    """
    if isinstance(error, InputError):
        return error
    return InputError(f"the engine rejected a request: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, cut at 300 characters; the name of the error's class if
    the message is empty.
    """
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def check_token_ids(token_ids: Sequence[int], num_embeddings: int) -> None:
    """Raises InputError if a token id is negative or has no row in the model's embedding.

    vLLM accepts every id of the tokenizer and then reads past the embedding, which returns garbage or
    crashes.
    """
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < num_embeddings):
        wrong = next(one for one in token_ids if not 0 <= one < num_embeddings)
        raise InputError(
            f"the prompt has token id {wrong}, and the model's embedding has {num_embeddings:,} rows; the "
            "tokenizer or its chat template does not fit the model"
        )


Settled = tuple[EngineRequest, Result]


def settle(settled: Iterable[Settled]) -> None:
    """Sets the results and errors of requests' futures; a future that is already done stays as it is.

    All futures of one event loop are set in one call, since waking a loop costs the engine time.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[Settled]] = {}
    for request, result in settled:
        by_loop.setdefault(request.loop, []).append((request, result))
    for loop, those in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: there are no waiting callers any more
            loop.call_soon_threadsafe(_set_results, those)


def _set_results(settled: Sequence[Settled]) -> None:
    for request, result in settled:
        if request.future.done():  # cancelled meanwhile
            continue
        if isinstance(result, BaseException):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)
