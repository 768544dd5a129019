"""Trains one arm with one seed; the loop is the same on one process and in a process group."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from drsft.errors import StageError
from drsft.objectives.warning_rules import troubles
from drsft.run import layout
from drsft.run.models import FinishedTraining
from drsft.storage import Store
from drsft.train import checkpoint
from drsft.train.card import model_card
from drsft.train.checkpoint import Checkpointer
from drsft.train.compiled import compile_seconds
from drsft.train.export import Export, export_model
from drsft.train.flops import peak_flops, training_flops
from drsft.train.job import Job, Training
from drsft.train.metrics_log import MetricsLog
from drsft.train.model import ScoringModel
from drsft.train.optimiser import make_optimiser
from drsft.train.policy_snapshot import snapshot_files, stored_snapshot, take_snapshot
from drsft.train.prepare import prepare_model
from drsft.train.probabilities import note_probabilities
from drsft.train.reference import References, gather_references
from drsft.train.step import train_step
from drsft.train.tracking import open_trackers
from drsft.train.validation import VALIDATION_CE, validate

__all__ = ["OnStep", "train_one"]

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, dict[str, float]], None]  # steps done, steps in all, the last step's metrics


def train_one(
    training: Training,
    *,
    store: Store,
    rows_store: Store | None = None,
    run: str = "drsft",
    on_step: OnStep = lambda step, num_steps, metrics: None,
    wants_checkpoint: Callable[[], bool] = lambda: False,
) -> FinishedTraining:
    """Trains one arm with one seed to the end, exports the model, and returns the commit of the finished job.

    It starts from the job's newest committed checkpoint, or from the target if there is none. `store` is the
    job's own, within the run's (drsft/run/layout.py); the commit is created last. `rows_store` is shared by
    the jobs that train on the same rows; the frozen start's log-probs of the rows are cached there.
    `wants_checkpoint` is called after every step, with the same result on all processes. If true, a
    checkpoint is saved now: a worker is being preempted. Raises StageError, on every process at once, when
    the loss becomes NaN or infinite.
    """
    compiled_s = compile_seconds() if training.settings.compile else 0.0
    model = prepare_model(training)
    references = gather_references(training, model, rows_store)
    optimiser = make_optimiser(model, training.settings)
    first_step = checkpoint.load_latest(store, model, optimiser, world=training.world)
    if first_step == 0:
        note_probabilities("before", training, store, model)
    log = _open_log(training, store, run=run, first_step=first_step)
    references = stored_snapshot(training, references, store, first_step)
    _train(training, model, optimiser, references, store, log, on_step, wants_checkpoint)
    if training.settings.export == "best":
        _load_best(training, store, model, optimiser, log)
    note_probabilities("after", training, store, model)
    export_model(store, model, _export(training, log), world=training.world)
    if training.settings.compile:
        compiled_s = round(compile_seconds() - compiled_s, 3)
        logger.info("%s: torch.compile took %.1f s", training.job, compiled_s)
    return _finish(training, store, log, compiled_s)


def _train(
    training: Training,
    model: ScoringModel,
    optimiser: torch.optim.Optimizer,
    references: References,
    store: Store,
    log: MetricsLog,
    on_step: OnStep,
    wants_checkpoint: Callable[[], bool],
) -> None:
    """Runs the steps that are not in the log yet, with their checkpoints."""
    checkpointer = Checkpointer(store, training.world, num_kept=training.settings.num_checkpoints)
    num_steps, warned = training.order.num_steps, set[str]()
    for step in range(log.first_step, num_steps):
        references = take_snapshot(training, references, model, step)
        metrics = _step(training, model, optimiser, references, step, log)
        if training.world.is_first:
            _warn(training.job, log, warned)
        num_done = step + 1
        on_step(num_done, num_steps, metrics | {"checkpoint_step": checkpointer.newest_step})
        is_urgent = wants_checkpoint()
        if is_urgent or training.is_checkpoint_due(num_done):
            log.write()
            files = snapshot_files(training, references, num_done)
            score = metrics.get(VALIDATION_CE)
            checkpointer.save(model, optimiser, step=num_done, score=score, files=files)
        if is_urgent:
            checkpointer.finish()
        checkpointer.poll()
    checkpointer.finish()
    log.close()


def _step(
    training: Training,
    model: ScoringModel,
    optimiser: torch.optim.Optimizer,
    references: References,
    step: int,
    log: MetricsLog,
) -> dict[str, float]:
    """Runs one step, logs and returns its metrics, with those of the held-out rows if a checkpoint is due."""
    try:
        metrics = train_step(training, model, optimiser, step, references=references)
    except StageError:
        log.close()  # the logged steps show how it happened
        raise
    metrics |= _utilisation(training, model, metrics, step)
    if training.held_out is not None and training.is_checkpoint_due(step + 1):
        micro_batch_rows = training.settings.micro_batch_rows
        metrics |= validate(model, training.held_out, micro_batch_rows=micro_batch_rows, world=training.world)
    log.add({"step": step + 1, **metrics})
    return metrics


def _open_log(training: Training, store: Store, *, run: str, first_step: int) -> MetricsLog:
    names = training.settings.trackers if training.world.is_first else ()
    # The name includes the settings, or curves of different trainings would be mixed.
    name = layout.training(training.settings, training.job.arm, training.job.seed).model_name
    trackers = open_trackers(names, store, run=run, job=name, first_step=first_step)
    return MetricsLog(store, first_step=first_step, world=training.world, trackers=trackers)


def _warn(job: Job, log: MetricsLog, warned: set[str]) -> None:
    """Logs each warning once, when its rule first applies."""
    for name, text in troubles(log.rows).items():
        if name not in warned:
            warned.add(name)
            logger.warning("training of %s, after step %d: %s", job, len(log.rows), text)


def _utilisation(
    training: Training, model: ScoringModel, metrics: dict[str, float], step: int
) -> dict[str, float]:
    """Returns the model FLOPs utilisation, if the device's peak is known."""
    peak = peak_flops(training.world.device)
    if peak is None:
        return {}
    lengths = training.rows.documents(training.order.rows_of(step)).lengths
    flops = training_flops(model.causal_lm, lengths=lengths, num_loss_tokens=int(metrics["loss_tokens"]))
    return {"mfu": flops / metrics["step_s"] / (peak * training.world.size)}


def _load_best(
    training: Training,
    store: Store,
    model: ScoringModel,
    optimiser: torch.optim.Optimizer,
    log: MetricsLog,
) -> None:
    """Loads the best checkpoint's weights into the model, unless the last checkpoint is the best one."""
    world = training.world
    best = checkpoint.best(checkpoint.commits(store)) if world.is_first else None
    if best is not None and best.score is not None and best.score >= log.rows[-1][VALIDATION_CE]:
        best = None
    best = world.from_first(best)
    if best is not None:
        checkpoint.load(store, model, optimiser, step=best.step, world=world)


def _export(training: Training, log: MetricsLog) -> Export:
    rows, target = training.rows, training.target
    last_ids = rows.input_ids_T[rows.document_offsets[1:] - 1]
    end_of_turn_id = int(np.bincount(last_ids).argmax())  # the last token of the trained texts
    return Export(
        target=target.location,
        dtype=target.compute_dtype,
        end_of_turn_id=end_of_turn_id,
        card=model_card(training, final=log.rows[-1] if log.rows else {}),
        lora=training.settings.lora,
        chat_template=target.chat_template,
    )


def _finish(training: Training, store: Store, log: MetricsLog, compiled_s: float) -> FinishedTraining:
    """Commits the job and returns the commit.

    Its wall time is the sum over the logged steps, each counted once, without the export.
    """
    done: FinishedTraining | None = None
    if training.world.is_first:
        done = FinishedTraining(
            steps=len(log.rows),
            loss_tokens=int(sum(row["loss_tokens"] for row in log.rows)),
            wall_s=round(sum(row["step_s"] for row in log.rows), 3),
            num_workers=training.world.size,
            compile_s=compiled_s,
            ended_at=time.time(),
            final=log.rows[-1],
            troubles=tuple(troubles(log.rows).values()),
        )
        store.create(layout.TRAINING.done, json.dumps(asdict(done)).encode())
    finished = training.world.from_first(done)
    assert finished is not None  # the first process has made it
    return finished
