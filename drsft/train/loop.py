"""Training one arm with one seed: the loop, alike under plain torch on one process and in a process group."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from drsft.config import Arm, Train
from drsft.errors import StageError
from drsft.objectives.health import troubles
from drsft.records import stable_seed
from drsft.run import layout
from drsft.storage import Store
from drsft.train import checkpoint
from drsft.train.card import model_card
from drsft.train.checkpoint import Checkpointer
from drsft.train.export import Export, export_model
from drsft.train.flops import peak_flops, training_flops
from drsft.train.lora import add_adapters
from drsft.train.metrics_log import MetricsLog
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.optimiser import make_optimiser
from drsft.train.order import RowOrder
from drsft.train.pack import PackedRows
from drsft.train.probabilities import note_probabilities
from drsft.train.reference import gather_references
from drsft.train.snapshot import kept_snapshot, snapshot_files, take_snapshot
from drsft.train.step import train_step
from drsft.train.tracking import open_trackers
from drsft.train.validation import VALIDATION_CE, validate
from drsft.train.world import World

__all__ = ["Job", "OnStep", "Target", "jobs_of", "row_order", "train_one"]

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, dict[str, float]], None]  # steps done, steps in all, the last step's metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One arm with one seed. The seed orders the rows and draws the dropout, where the model has any."""

    arm: Arm
    seed: int

    def __str__(self) -> str:
        return f"{self.arm.name} seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The model that training starts from."""

    location: str  # a folder or a hub name
    compute_dtype: torch.dtype  # of forward and backward, and of the export; master weights are fp32


def jobs_of(train: Train) -> list[Job]:
    return [Job(arm=arm, seed=seed) for seed in train.seeds for arm in train.arms]


def row_order(train: Train, *, num_rows: int, seed: int) -> RowOrder:
    return RowOrder(num_rows=num_rows, batch_rows=train.batch_rows, num_epochs=train.num_epochs, seed=seed)


def train_one(
    job: Job,
    *,
    train: Train,
    target: Target,
    rows: PackedRows,
    store: Store,
    world: World,
    held_out: PackedRows | None = None,
    rows_store: Store | None = None,
    run: str = "drsft",
    on_step: OnStep = lambda step, num_steps, metrics: None,
    wants_checkpoint: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains from the newest committed checkpoint, or from the target, to the end, and exports.

    `store` is the job's own, within the run's (drsft/run/layout.py); its commit, created last, is
    returned. `rows_store`, shared by the jobs of the same rows, keeps what the frozen start makes of them.
    `wants_checkpoint` is asked after every step, with the same answer on all processes: yes saves at once,
    because one of them is about to go. Raises StageError, on every process at once, when the loss is no
    longer a number.
    """
    model = prepare(target, train, world, seed=job.seed)
    setting: dict[str, Any] = {
        "rows": rows,
        "order": row_order(train, num_rows=len(rows), seed=job.seed),
        "world": world,
    }
    references = gather_references(
        job.arm,
        model,
        start_model=lambda: prepare_start(target, world),
        location=target.location,
        micro_batch_rows=train.micro_batch_rows,
        rows=rows,
        store=rows_store,
        world=world,
    )
    optimiser = make_optimiser(model, train)
    first_step = checkpoint.load_latest(store, model, optimiser, world=world)
    references = kept_snapshot(references, store, first_step, objective=job.arm.objective, **setting)
    measured: dict[str, Any] = {"micro_batch_rows": train.micro_batch_rows, "world": world}
    if first_step == 0:
        note_probabilities("before", store, model, rows, **measured)
    log = _open_log(store, job, train=train, run=run, first_step=first_step, world=world)
    checkpointer = Checkpointer(store, world, num_kept=train.num_checkpoints)
    num_steps = setting["order"].num_steps
    warned: set[str] = set()
    for step in range(first_step, num_steps):
        references = take_snapshot(
            references,
            model,
            step,
            objective=job.arm.objective,
            micro_batch_rows=train.micro_batch_rows,
            **setting,
        )
        try:
            metrics = train_step(
                model, optimiser, step, arm=job.arm, train=train, references=references, **setting
            )
        except StageError:
            log.close()  # the steps until here tell how it came to this
            raise
        num_done = step + 1
        metrics |= _utilisation(model, metrics, rows, setting["order"].rows_of(step), world)
        is_due = num_done % train.checkpoint_every_steps == 0 or num_done == num_steps
        if is_due and held_out is not None:
            metrics |= validate(model, held_out, micro_batch_rows=train.micro_batch_rows, world=world)
        log.add({"step": num_done, **metrics})
        if world.is_first:
            _warn(job, log, warned)
        on_step(num_done, num_steps, metrics | {"checkpoint_step": checkpointer.newest_step})
        is_urgent = wants_checkpoint()
        if is_due or is_urgent:  # after the last step too: a failing export must not cost the training
            log.write()
            checkpointer.save(
                model,
                optimiser,
                step=num_done,
                score=metrics.get(VALIDATION_CE),
                files=snapshot_files(references, job.arm.objective, num_done),
            )
        if is_urgent:
            checkpointer.finish()
        checkpointer.poll()
    checkpointer.finish()
    log.close()
    if train.export == "best":
        _load_best(store, model, optimiser, log, world)
    note_probabilities("after", store, model, rows, **measured)
    export_model(store, model, _export(job, target, train, rows, log), world=world)
    return _finish(store, log, world)


def prepare(target: Target, train: Train, world: World, *, seed: int = 0) -> ScoringModel:
    """The model on its device, spread over the world. Alone and in fp32 there is nothing to spread."""
    causal_lm = load_model(target.location).to(world.device).train()
    if train.lora is not None:
        add_adapters(causal_lm, train.lora, seed=stable_seed(seed, "adapters"))
    model = ScoringModel(causal_lm, activation_checkpointing=train.activation_checkpointing)
    return _spread(model, target, world)


def prepare_start(target: Target, world: World) -> ScoringModel:
    """The frozen start, likewise. Nothing is ever added to its weights, so they are kept in the precision
    that they are computed with; its buffers stay as they are, as the trained model's do."""
    model = ScoringModel(load_model(target.location).to(world.device)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(target.compute_dtype)
    return _spread(model, target, world)


def _spread(model: ScoringModel, target: Target, world: World) -> ScoringModel:
    if world.size > 1 or target.compute_dtype != torch.float32:
        world.ensure_process_group()
        shard(model, world, compute_dtype=target.compute_dtype)
    return model


def _open_log(store: Store, job: Job, *, train: Train, run: str, first_step: int, world: World) -> MetricsLog:
    names = train.trackers if world.is_first else ()
    # By the settings too: an equal name would mix the curves of trainings that differ in them.
    name = layout.training(train, job.arm, job.seed).model_name
    trackers = open_trackers(names, store, run=run, job=name, first_step=first_step)
    return MetricsLog(store, num_steps_done=first_step, world=world, trackers=trackers)


def _warn(job: Job, log: MetricsLog, warned: set[str]) -> None:
    """Says each trouble once, when it begins."""
    for name, text in troubles(log.rows).items():
        if name not in warned:
            warned.add(name)
            logger.warning("%s, step %d: %s", job, len(log.rows), text)


def _utilisation(
    model: ScoringModel, metrics: dict[str, float], rows: PackedRows, row_indices: Any, world: World
) -> dict[str, float]:
    """Model FLOPs utilisation, where the device's peak is known."""
    peak = peak_flops(world.device)
    if peak is None:
        return {}
    lengths = rows.documents(row_indices).lengths
    flops = training_flops(model.causal_lm, lengths=lengths, num_loss_tokens=int(metrics["loss_tokens"]))
    return {"mfu": flops / metrics["step_s"] / (peak * world.size)}


def _load_best(
    store: Store, model: ScoringModel, optimiser: torch.optim.Optimizer, log: MetricsLog, world: World
) -> None:
    """Puts the best checkpoint's weights into the model, unless the last ones are as good."""
    best = checkpoint.best(checkpoint.commits(store)) if world.is_first else None
    if best is not None and best.score is not None and best.score >= log.rows[-1][VALIDATION_CE]:
        best = None
    best = world.from_first(best)
    if best is not None:
        checkpoint.load(store, model, optimiser, step=best.step, world=world)


def _export(job: Job, target: Target, train: Train, rows: PackedRows, log: MetricsLog) -> Export:
    last_ids = rows.input_ids_N[rows.document_offsets[1:] - 1]
    end_of_turn_id = int(np.bincount(last_ids).argmax())  # what the learnt texts end with
    card = model_card(
        target=target.location,
        arm=job.arm,
        seed=job.seed,
        train=train,
        rows=len(rows),
        texts=len(rows.problem_ids),
        final=log.rows[-1] if log.rows else {},
    )
    return Export(
        target=target.location,
        dtype=target.compute_dtype,
        end_of_turn_id=end_of_turn_id,
        card=card,
        lora=train.lora,
    )


def _finish(store: Store, log: MetricsLog, world: World) -> dict[str, Any]:
    """Commits the job. Its wall time is that of the steps that count, each once, without export."""
    done: dict[str, Any] = {}
    if world.is_first:
        done = {
            "steps": len(log.rows),
            "loss_tokens": int(sum(row["loss_tokens"] for row in log.rows)),
            "wall_s": round(sum(row["step_s"] for row in log.rows), 3),
            "num_workers": world.size,
            "ended_at": time.time(),
            "final": log.rows[-1],
            "troubles": list(troubles(log.rows).values()),
        }
        store.create(layout.TRAINING.done, json.dumps(done).encode())
    return world.from_first(done)
