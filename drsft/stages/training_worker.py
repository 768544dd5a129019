"""Trains all jobs of a run in one process of Ray Train's group."""

import logging
import math
import os
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device
from transformers.utils import logging as transformers_logging

from drsft.config import Resources, RunConfig, Train
from drsft.errors import StageError
from drsft.policy.prompts import model_location
from drsft.process.logs import log_as_json
from drsft.run import layout
from drsft.stages.progress_rates import TrainingClock
from drsft.storage import Store, open_store
from drsft.train.job import Job, Target, Training, jobs_of
from drsft.train.loop import train_one
from drsft.train.packed_data import read_packed
from drsft.train.world import World

__all__ = ["STAGE", "let_segments_grow", "train_all"]

logger = logging.getLogger(__name__)

STAGE = "train"
SHOWN = ("loss", "tokens_per_s", "mfu", "validation_ce", "validation_accuracy")  # beside the progress


def train_all(arguments: dict[str, Any]) -> str | None:
    """Trains every unfinished job (one arm with one seed) in this worker of Ray Train's group.

    Returns the message of a StageError, which every worker meets at the same step, and which another attempt
    would meet again; None if all jobs are done, or the run is draining. Any other error is raised, and Ray
    restarts the group.
    """
    config = RunConfig.model_validate_json(arguments["config"])
    if os.path.isdir(arguments["folder"]):
        # Ray Train starts a worker in a folder of its own, where a model's relative path leads nowhere.
        os.chdir(arguments["folder"])
    log_as_json(run=config.run_id, stage=STAGE)
    store = open_store(arguments["store"])
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(max(1, int(config.resources.cpus_per_train_worker)))
    let_segments_grow(os.environ)
    world = _world(config.resources)
    return _train_jobs(config, store, world, arguments["board"] if world.is_first else None)


def let_segments_grow(environment: MutableMapping[str, str]) -> None:
    """Sets torch's CUDA allocator to expandable segments, unless the user has set the allocator.

    Micro-batches differ in their number of tokens, so segments of a fixed size would be left in pieces. It
    has an effect only before the process first allocates memory of a GPU.
    """
    if "PYTORCH_CUDA_ALLOC_CONF" not in environment:
        environment.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def _world(resources: Resources) -> World:
    """Returns the group's world; Ray Train numbers the workers of a node one after another."""
    world = World.current(get_device())
    num_shards = resources.shards_of(world.size)
    if num_shards == world.size:
        return world
    on_node = ray.train.get_context().get_local_world_size()
    if world.is_first and on_node % num_shards:
        logger.warning(
            "resources.train_shards: the %d workers that share a copy are on several nodes (%d on this one), "
            "so weights are gathered over the network",
            num_shards,
            on_node,
        )
    return world.in_copies(num_shards)


def _train_jobs(config: RunConfig, store: Store, world: World, board: Any | None) -> str | None:
    trainings = _trainings(config, store, world)
    interruption = _Interruption(world, board)
    finished = world.from_first([one.job for one in trainings if _is_done(store, config.train, one.job)])
    progress = _Progress(board, trainings, finished)
    for training in trainings:
        job = training.job
        if job not in finished:
            try:
                train_one(
                    training,
                    store=store.within(layout.training(config.train, job.arm, job.seed).prefix),
                    rows_store=store.within(layout.packed_rows(config.train, job.arm.data).prefix),
                    run=config.run_id,
                    on_step=progress.of(job),
                    wants_checkpoint=interruption.is_new,
                )
            except _DrainedError:
                return None
            except StageError as error:
                progress.fail(job)
                return f"{job}: {error}"
            progress.finish(job)
    return None


def _is_done(store: Store, train: Train, job: Job) -> bool:
    return store.exists(layout.training(train, job.arm, job.seed).done)


def _trainings(config: RunConfig, store: Store, world: World) -> list[Training]:
    """Returns all trainings of the run, in order, with their packed rows read."""
    train = config.train
    packed = {data: read_packed(store, data, train) for data in {arm.data for arm in train.arms}}
    target = Target(
        location=model_location(train.initial_model or config.target.model),
        compute_dtype=getattr(torch, config.target.dtype),
        chat_template=config.target.chat_template,
    )
    return [
        Training(
            job=job,
            settings=train,
            target=target,
            rows=packed[job.arm.data].learnt,
            held_out=packed[job.arm.data].held_out,
            world=world,
        )
        for job in jobs_of(train)
    ]


class _DrainedError(Exception):
    """The run is draining, and its checkpoint has been saved."""


class _Interruption:
    """Finds out whether a node of the group will be removed, or the run was asked to end.

    The check is a barrier of all workers that takes a tenth of a second. So it happens every few steps, by
    the first worker's clock; the answer is the same on all workers.
    """

    def __init__(self, world: World, board: Any | None, *, every_s: float = 5.0) -> None:
        self._world, self._board, self._every_s = world, board, every_s
        self._known: Any = None
        self._is_ending = False
        self._num_steps, self._wait_steps = 0, 1
        self._asked_s = time.monotonic()

    def is_new(self) -> bool:
        """Returns whether to save a checkpoint now; call it after every step.

        If the run was asked to end, it returns True once, and the next call raises _DrainedError.
        """
        if self._is_ending:
            raise _DrainedError
        self._num_steps += 1
        if self._num_steps < self._wait_steps:
            return False
        told = ray.train.get_preemption_info()
        is_new = told is not None and told != self._known
        self._known = told
        now_s = time.monotonic()
        step_s = (now_s - self._asked_s) / self._num_steps
        self._num_steps, self._asked_s = 0, now_s
        wait_steps = max(1, round(self._every_s / step_s))
        self._wait_steps, self._is_ending = self._world.from_first((wait_steps, self._was_asked_to_end()))
        return is_new or self._is_ending

    def _was_asked_to_end(self) -> bool:
        """Returns whether the run was asked to end, on all workers as the first one found.

        Only the first worker asks the board.
        """
        return self._board is not None and bool(ray.get(self._board.is_draining.remote()))


class _Progress:
    """Reports the combined progress of all jobs to the board, a few times a second."""

    def __init__(
        self,
        board: Any | None,
        trainings: Sequence[Training],
        finished: Sequence[Job],
        *,
        every_s: float = 0.3,
    ) -> None:
        self._board, self._every_s = board, every_s
        self._num_steps = {one.job: one.order.num_steps for one in trainings}
        self._total = sum(self._num_steps.values())
        self._num_before = sum(self._num_steps[job] for job in finished)  # and of the jobs before this one
        self._clock = TrainingClock(
            [(job.arm.name, num_steps) for job, num_steps in self._num_steps.items() if job not in finished]
        )
        self._sent_s = 0.0

    def of(self, job: Job) -> Any:
        self._clock.begin(now_s=time.monotonic())

        def on_step(step: int, num_steps: int, metrics: dict[str, float]) -> None:
            now_s = time.monotonic()
            self._clock.step(step, now_s=now_s)
            if now_s - self._sent_s >= self._every_s:
                self._sent_s = now_s
                shown = {name: metrics[name] for name in SHOWN if name in metrics}
                self._send(self._num_before + step, job, **shown)
                self._trained(step, job, metrics)

        return on_step

    def fail(self, job: Job) -> None:
        """Reports that a job's loss has become NaN or infinite."""
        self._trained(0, job, {"loss": math.nan})

    def _trained(self, step: int, job: Job, metrics: Mapping[str, float]) -> None:
        if self._board is not None:
            self._board.trained.remote(step, metrics, arm=job.arm.name, seed=str(job.seed))

    def finish(self, job: Job) -> None:
        self._clock.end(now_s=time.monotonic())
        self._num_before += self._num_steps[job]
        self._send(self._num_before, job)

    def _send(self, done: int, job: Job, **shown: float) -> None:
        if self._board is not None:
            left_s = self._clock.left_s(now_s=time.monotonic())
            self._board.update.remote(
                STAGE, done=done, total=self._total, note=str(job), left_s=left_s, **shown
            )
