"""Trains with Ray Train: the packed views are made once, then one group of workers trains every job.

Workers start, and import, once for all jobs. A finished job is skipped; an interrupted job resumes from its
last committed checkpoint, whether a worker or the driver was lost.
"""

import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray.train
import torch
from ray.train import FailureConfig, LoggingConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from transformers.utils import logging as transformers_logging

from drsft.config import DataView, Resources, RunConfig, Train
from drsft.errors import StageError
from drsft.gap.filtering import filter_records
from drsft.policy.prompts import check_location, model_location
from drsft.process.logs import log_as_json
from drsft.run import layout
from drsft.run.run import Run
from drsft.stages.actors import group_labels, raise_cause
from drsft.stages.gap import run_scores
from drsft.stages.progress_board import stop_if_draining
from drsft.stages.progress_rates import TrainingClock
from drsft.stages.turn import thought_length
from drsft.storage import Store, open_store
from drsft.train.job import Job, Target, Training, jobs_of
from drsft.train.loop import train_one
from drsft.train.packed_data import is_packed, pack_data, read_packed
from drsft.train.world import World

__all__ = ["STAGE", "is_complete", "run_training", "told_troubles"]

STAGE = "train"
ReadView = Callable[[DataView], pa.Table]  # rows_of_view of drsft/rewrite/data_views.py
SHOWN = ("loss", "tokens_per_s", "mfu", "validation_ce", "validation_accuracy")  # beside the progress


def is_complete(run: Run) -> bool:
    return all(run.store.exists(folder.done) for _, folder in run.trainings())


def _is_done(store: Store, train: Train, job: Job) -> bool:
    return store.exists(layout.training(train, job.arm, job.seed).done)


def told_troubles(run: Run) -> list[str]:
    """Returns one line for each warning that the metrics of a finished training show."""
    return [
        f"{model.arm} seed {model.seed}: {text}"
        for model, folder in run.trainings()
        if (done := run.finished_training(folder))
        for text in done.troubles
    ]


def run_training(config: RunConfig, store_url: str, read_view: ReadView, *, board: Any | None) -> None:
    """Trains every arm with every seed, each into its folder of the run.

    Each view is read once and stored packed. If everything is done already, nothing happens. Raises
    StageError if a job cannot be finished; errors of loading a model or reaching the store are raised
    unchanged.
    """
    store = open_store(store_url)
    if is_complete(Run(store, config)):
        return
    check_location(model_location(config.train.initial_model or config.target.model))
    for data in sorted({arm.data for arm in config.train.arms}):
        if not is_packed(store, data, config.train):
            records = _filtered(store, read_view(data), data, config)
            pack_data(store, records, data, config.train, thought_length=thought_length(config, store))
    with tempfile.TemporaryDirectory(prefix="drsft-ray-train-") as scratch, raise_cause("training"):
        result = _fit(_trainer(config, store_url, board, scratch))
    stop_if_draining(board)
    if result.return_value is not None:
        raise StageError(result.return_value)


def _filtered(store: Store, records: pa.Table, data: DataView, config: RunConfig) -> pa.Table:
    """Returns the records that `train.filter` keeps, and stores how many it left out beside the
    packed rows.
    """
    train = config.train
    if train.filter is None:
        return records
    kept, counts = filter_records(records, run_scores(store, config), train.filter, data=data)
    if not kept.num_rows:
        raise StageError(
            f"train.filter leaves out all {counts.num_texts} texts of the {data} data; loosen it"
        )
    store.put(layout.packed_rows(train, data).filter_counts, json.dumps(asdict(counts)).encode())
    return kept


def _trainer(config: RunConfig, store_url: str, board: Any | None, scratch: str) -> TorchTrainer:
    resources, share = config.resources, config.resources.train_share
    per_worker = {"CPU": share.cpus}
    if share.gpus:
        per_worker["GPU"] = share.gpus
    # The controller looks at its workers this often; the default of 2 s is waited out at a run's end.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    return TorchTrainer(
        _work,
        train_loop_config={
            "config": config.model_dump_json(),
            "store": store_url,
            "board": board,
            "folder": _working_directory(),
        },
        scaling_config=ScalingConfig(
            num_workers=_num_workers(resources),
            use_gpu=share.gpus > 0,
            resources_per_worker=per_worker,
            label_selector=group_labels(resources.train_group),
        ),
        run_config=ray.train.RunConfig(
            name=config.run_id,
            storage_path=scratch,  # Ray's own notes; checkpoints and results go to the run's store
            logging_config=LoggingConfig(log_level="ERROR"),  # the run draws its own progress
            failure_config=FailureConfig(max_failures=resources.max_train_failures),
        ),
    )


def _working_directory() -> str:
    """Returns the working directory, or '' if it no longer exists: Ray removes a job's directory when no
    worker uses it.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _fit(trainer: TorchTrainer) -> ray.train.Result:
    """Runs the trainer in another thread: in the main thread, Ray Train's handler would turn Ctrl-C into exit
    code 0.
    """
    done: Future[ray.train.Result] = Future()

    def fit() -> None:
        try:
            done.set_result(trainer.fit())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    return done.result()


def _num_workers(resources: Resources) -> int | tuple[int, int]:
    """Returns the number of workers, or a range for elastic training.

    With a range, Ray Train resizes the group by a restart, which resumes from the newest checkpoint.
    """
    least, most = resources.train_share.num_workers, resources.max_train_workers
    return least if most is None else (least, most)


def _work(arguments: dict[str, Any]) -> str | None:
    """Runs in each worker; returns the result of `_train_all`."""
    config = RunConfig.model_validate_json(arguments["config"])
    if os.path.isdir(arguments["folder"]):
        # Ray Train starts a worker in a folder of its own, where a model's relative path leads nowhere.
        os.chdir(arguments["folder"])
    log_as_json(run=config.run_id, stage=STAGE)
    store = open_store(arguments["store"])
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(max(1, int(config.resources.cpus_per_train_worker)))
    world = World.current(get_device())
    return _train_all(config, store, world, arguments["board"] if world.is_first else None)


def _train_all(config: RunConfig, store: Store, world: World, board: Any | None) -> str | None:
    """Trains all jobs; returns the message of a StageError, or None.

    Every worker meets a StageError at the same step, and another attempt would meet it again. Any other error
    is raised, and Ray restarts the group.
    """
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
