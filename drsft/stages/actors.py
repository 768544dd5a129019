"""Provides what all stages with actors need: resources, engine guards, and errors without Ray's wrapping."""

import asyncio
import logging
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import ray
from ray.data import DataContext, Dataset

from drsft import errors
from drsft.config import Resources, RunConfig, Target
from drsft.errors import DrsftError, StageError
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.start_phases import EnginePhase
from drsft.process.exhaustion import end_where_exhausted, is_exhausted
from drsft.stages.engine_deaths import MAX_TRIES, Permit
from drsft.stages.row_search import Culprit
from drsft.stages.shard_queue import Draw
from drsft.verify.pool import VerifierPool

if TYPE_CHECKING:
    from drsft.gap.scoring import CausalLM  # this import loads torch

__all__ = [
    "GROUP_LABEL",
    "EngineGuard",
    "EnginePulse",
    "MakePolicy",
    "ScoringGuard",
    "actor_resources",
    "actor_verifier",
    "group_labels",
    "quiet_ray_data",
    "raise_cause",
    "raise_given_up",
    "run_to_end",
    "scoring_model",
]

GROUP_LABEL = "drsft.io/group"  # of a Ray node; k8s/ and cluster/ give it to their groups of workers
DEATH_LIMIT_S = 15  # for telling the board about it

MakePolicy = Callable[[Target, Prompter], Policy]  # in place of an actor's engine

_ERROR_LINE = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception)(?:\b.*: |$)")
_WRAPPER = "ray.exceptions.UserCodeException"  # Ray Data's, which follows the error itself
_DRSFT_ERROR = re.compile(r"drsft\.errors\.(\w+): (.+)")


def actor_resources(resources: Resources) -> dict[str, Any]:
    """Returns the arguments of Ray Data's `map_batches` for an actor with an engine or a scoring model.

    They reserve its CPUs and GPUs and, with `rewrite_group`, place it on nodes of that group only.
    """
    share = resources.engine_share
    gpus = {"num_gpus": share.gpus} if share.gpus else {}
    labels = group_labels(resources.rewrite_group)
    return {"num_cpus": share.cpus, **gpus, **({"label_selector": labels} if labels else {})}


def group_labels(group: str | None) -> dict[str, str] | None:
    """Returns Ray's label selector for a group of nodes; None if `group` is None: any node will do."""
    return {GROUP_LABEL: group} if group else None


def actor_verifier(config: RunConfig) -> VerifierPool:
    """Returns a new verifier pool for one actor, with the same settings for rewriting and evaluation."""
    workers = config.resources.verify_workers_per_actor
    return VerifierPool.from_config(config.rewrite.verification, num_workers=workers)


def scoring_model(target: Target) -> "CausalLM":
    """Loads the target with transformers for scoring texts, on the actor's GPU if it has one.

    An engine gives no entropy over the whole vocabulary. `drsft.train.model` is imported here, after any
    engine was built, since the first import of torch determines its number of threads.
    """
    from drsft.train.model import load_for_scoring

    model: CausalLM = load_for_scoring(target.model, target.dtype)
    return model


class EnginePulse:
    """Reports to the progress board every few seconds what an engine has sampled and has in flight.

    It also reports how long the engine has existed, and how much of that time it was busy. The reports come
    from a thread of their own, so that an engine that hangs is noticed.
    """

    def __init__(
        self, board: Any, stage: str, actor_id: str, policy: VLLMPolicy, *, every_s: float = 2.0
    ) -> None:
        self._board, self._stage, self._actor_id = board, stage, actor_id
        self._policy, self._every_s = policy, every_s
        self._told_tokens = self._told_samples = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="engine-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the reports; call it before the engine is closed."""
        self._ended.set()
        self._thread.join()
        self._board.engine_ends.remote(self._stage, self._actor_id)

    def _tell(self) -> None:
        told_s, told_busy_s = time.monotonic(), self._policy.busy_s
        labels, is_ended = {"stage": self._stage}, False
        while not is_ended:
            self._tell_counts()
            is_ended = self._ended.wait(self._every_s)
            now_s, busy_s = time.monotonic(), self._policy.busy_s
            counts = [
                ("engine_seconds", now_s - told_s, labels),
                ("engine_busy_seconds", busy_s - told_busy_s, labels),
            ]
            self._board.count.remote(counts)
            told_s, told_busy_s = now_s, busy_s
        self._tell_counts()

    def _tell_counts(self) -> None:
        counts = self._policy.counts()
        num_new_tokens = max(counts.num_tokens - self._told_tokens, 0)
        self._told_tokens += num_new_tokens
        num_new_samples, self._told_samples = counts.num_done - self._told_samples, counts.num_done
        self._board.engine_samples.remote(
            self._stage,
            self._actor_id,
            num_new_tokens,
            counts.num_in_flight,
            num_new_samples=num_new_samples,
        )


class EngineGuard:
    """Tells the progress board which work (shards or models) an actor's engine is doing.

    The board uses this to skip work that repeatedly kills engines. The constructor raises StageError if this
    actor's process has ended MAX_TRIES times before its engine was ready.
    """

    def __init__(self, board: Any, stage: str) -> None:
        self._board, self._stage = board, stage
        self._one_suspect, self._dying = asyncio.Lock(), threading.RLock()
        context = ray.get_runtime_context()
        self.actor_id: str = context.get_actor_id()
        self.node_id: str = context.get_node_id()
        end_where_exhausted(self._end)
        if not ray.get(board.engine_starts.remote(stage, self.actor_id, self.node_id)):
            raise StageError(
                f"{stage}: the engine's process ended {MAX_TRIES} times while it started; its actor's log "
                "has the reason (often memory runs out: lower the memory settings of target.engine)"
            )

    def ready(self) -> None:
        self._board.engine_ready.remote(self._stage, self.actor_id)

    def is_in(self, phase: EnginePhase) -> None:
        """Reports the current phase of the engine's start, such as reading weights."""
        self._board.engine_is.remote(self._stage, self.actor_id, phase)

    @asynccontextmanager
    async def work(self, name: str) -> AsyncIterator[Permit]:
        """Yields how to run this work: FREE (as a whole), IN_PARTS (to find the row that kills engines) or
        NEVER (skip it).

        Work that was running when an engine died waits first, until this actor runs no other such work. A
        StageError in the block ends the process, and so does a lack of memory or threads.
        """
        permit = await self._begin(name, is_alone=False)
        if permit is not Permit.ALONE:
            async with self._guarded(name):
                yield permit
            return
        async with self._one_suspect:
            permit = await self._begin(name, is_alone=True)
            async with self._guarded(name):
                yield permit

    async def next_shard(self, slot: int, *, finished: str | None) -> Draw:
        """Returns a slot's next shard, or the reason why there is none (ProgressBoard.next_shard)."""
        drawn = self._board.next_shard.remote(
            self._stage, slot, actor_id=self.actor_id, node_id=self.node_id, finished=finished
        )
        draw: Draw = await drawn
        return draw

    async def next_model(self, engine: int) -> str | None:
        """Returns the model that an engine works with next (ProgressBoard.next_model)."""
        model: str | None = await self._board.next_model.remote(
            self._stage, engine, actor_id=self.actor_id, node_id=self.node_id
        )
        return model

    async def next_part(self, name: str, num_rows: int) -> range | Culprit | None:
        """Returns the rows of this work to run next by themselves, or the row to leave out; None if no single
        row is the cause (EngineDeaths.next_part).
        """
        part: range | Culprit | None = await self._board.next_part.remote(self._stage, name, num_rows)
        return part

    async def part_survives(self, name: str) -> None:
        await self._board.part_survives.remote(self._stage, name)

    @contextmanager
    def only_work(self, name: str) -> Iterator[bool]:
        """Yields True if this work is to be done, and False if it killed engines too often.

        It is for an actor without asyncio that does one piece of work at a time.
        """
        permit = ray.get(self._board.work_begins.remote(self._stage, self.actor_id, name, is_alone=True))
        try:
            yield permit is Permit.FREE
        finally:
            self._board.work_ends.remote(self._stage, self.actor_id, name)

    async def _begin(self, name: str, *, is_alone: bool) -> Permit:
        answer = self._board.work_begins.remote(self._stage, self.actor_id, name, is_alone=is_alone)
        permit: Permit = await answer
        return permit

    @asynccontextmanager
    async def _guarded(self, name: str) -> AsyncIterator[None]:
        try:
            with self.ended_if_exhausted():
                yield
        except StageError as error:
            self._die(error)
        finally:
            self._board.work_ends.remote(self._stage, self.actor_id, name)

    @contextmanager
    def ended_if_exhausted(self) -> Iterator[None]:
        """Ends the process if the block lacks memory or threads: an exception would end the whole stage."""
        try:
            yield
        except Exception as error:
            if is_exhausted(error):
                self._end(error)
            raise

    def end_stalled(self, limit_s: float) -> NoReturn:
        self._die(
            StageError(f"it had work and got no further for {limit_s:g} s; its actor's log has the stacks")
        )

    def _end(self, error: BaseException) -> NoReturn:
        cause = f"its process has no more memory or threads ({type(error).__name__}: {error})"
        self._die(StageError(cause))

    def _die(self, error: StageError) -> NoReturn:
        """Exits the process: an exception would make Ray retry on the same actor, with its dead engine (ray
        #60145).

        It starts no thread and awaits nothing, which may be what has just failed.
        """
        signal.alarm(DEATH_LIMIT_S)  # the kernel ends it if what follows hangs, too
        try:
            with self._dying:  # another thread may do the same
                logging.getLogger("drsft").error("%s: %s", self._stage, error)
                told = self._board.engine_dies.remote(self._stage, self.actor_id, str(error))
                ray.get(told, timeout=5)
        finally:
            os._exit(1)


class ScoringGuard:
    """An EngineGuard for an actor whose models score one shard after the other.

    If `board` is None, as without a Ray cluster, it allows all work and reports nothing.
    """

    def __init__(self, board: Any, stage: str) -> None:
        self._guard = None if board is None else EngineGuard(board, stage)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reports to the board that this actor reads weights during the block, and scores afterwards."""
        if self._guard is None:
            yield
            return
        self._guard.is_in(EnginePhase.READING)
        yield
        self._guard.is_in(EnginePhase.SCORING)
        self._guard.ready()

    def work(self, shard: str) -> AbstractContextManager[bool]:
        """Returns a context manager that yields whether to score this shard: False if scoring it killed the
        process too often.
        """
        return nullcontext(True) if self._guard is None else self._guard.only_work(shard)


def raise_given_up(board: Any, stage: str) -> None:
    """Raises StageError, which names the work, if a stage skipped work that killed its engine too often."""
    given_up: dict[str, str] = ray.get(board.given_up.remote(stage))
    if given_up:
        names = ", ".join(sorted(given_up)[:5]) + (" and others" if len(given_up) > 5 else "")
        cause = given_up[min(given_up)]
        raise StageError(
            f"{stage}: {names} killed the engine {MAX_TRIES} times, each time like this: {cause}; "
            "all other work is done and kept"
        )


def quiet_ray_data() -> None:
    """Switches Ray Data's progress output off, since the run draws its own."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def run_to_end(work: Dataset, stage: str) -> None:
    """Runs a Ray Data pipeline and discards its rows: the actors' results are in the store.

    Errors are raised as by `raise_cause`. It does not call `materialize`, which asks every process of the
    cluster for memory statistics at its end, and so waits for any process that hangs.
    """
    with raise_cause(stage):
        for _ in work.iter_internal_ref_bundles():
            pass


@contextmanager
def raise_cause(stage: str) -> Iterator[None]:
    """Within the block, replaces any exception of Ray by the DrsftError that caused it in an actor.

    If no DrsftError caused it, it becomes a StageError with the exception's last line.
    """
    try:
        yield
    except DrsftError:
        raise
    except Exception as error:  # Ray wraps a worker's error in several classes of its own
        raise _cause_of(error, stage) from error


def _cause_of(error: BaseException, stage: str) -> DrsftError:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DrsftError):
            return seen
        inner = seen.cause if isinstance(seen, ray.exceptions.RayTaskError) else None
        seen = inner or seen.__cause__
    if match := _DRSFT_ERROR.search(str(error)):
        kind = getattr(errors, match[1], StageError)
        return kind(match[2].strip()) if issubclass(kind, DrsftError) else StageError(match[2])
    return StageError(f"{stage} failed: {_last_error_line(str(error)) or type(error).__name__}")


def _last_error_line(text: str) -> str:
    """Returns the line that names the exception, without the advice that Ray appends."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if _ERROR_LINE.match(line) and not line.startswith(_WRAPPER)]
    return (named or lines or [""])[-1][:300]
