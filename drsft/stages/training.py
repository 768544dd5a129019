"""Trains with Ray Train: the packed views are made once, then one group of workers trains every job.

Workers start, and import, once for all jobs. A finished job is skipped; an interrupted job resumes from its
last committed checkpoint, whether a worker or the driver was lost.
"""

import json
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.train
from ray.train import FailureConfig, LoggingConfig, ScalingConfig

from drsft.config import DataView, Resources, RunConfig
from drsft.errors import StageError
from drsft.gap.filtering import filter_records
from drsft.policy.prompts import check_location, model_location
from drsft.run import layout
from drsft.run.run import Run
from drsft.stages.actors import group_labels, raise_cause
from drsft.stages.gap import run_scores
from drsft.stages.progress_board import stop_if_draining
from drsft.stages.turn import thought_length
from drsft.storage import Store, open_store
from drsft.train.packed_data import is_packed, pack_data

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

__all__ = ["is_complete", "run_training", "told_troubles"]

ReadView = Callable[[DataView], pa.Table]  # rows_of_view of drsft/rewrite/data_views.py


def is_complete(run: Run) -> bool:
    return all(run.store.exists(folder.done) for _, folder in run.trainings())


def told_troubles(run: Run) -> list[str]:
    """Returns one line for each warning that a finished training has stored, with its arm and seed."""
    return [
        f"{model.arm} seed {model.seed}: {text}"
        for model, folder in run.trainings()
        if (done := run.finished_training(folder))
        for text in done.troubles
    ]


def run_training(config: RunConfig, store_url: str, read_view: ReadView, *, board: Any | None) -> None:
    """Trains every arm with every seed that is not trained yet, and stores each in its folder of the run.

    The rows of each data view are read once and stored packed. Raises StageError if a training cannot be
    finished; errors of loading a model or reaching the store are raised unchanged.
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


def _trainer(config: RunConfig, store_url: str, board: Any | None, scratch: str) -> "TorchTrainer":
    from ray.train.torch import TorchTrainer

    from drsft.stages.training_worker import train_all  # loads torch, which takes seconds

    resources, share = config.resources, config.resources.train_share
    per_worker = {"CPU": share.cpus}
    if share.gpus:
        per_worker["GPU"] = share.gpus
    # The controller polls its workers this often; the default of 2 s would delay a run's end.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    return TorchTrainer(
        train_all,
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
            storage_path=scratch,  # for Ray's own files; checkpoints and results go to the run's store
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


def _fit(trainer: "TorchTrainer") -> ray.train.Result:
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
