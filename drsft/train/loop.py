"""Training one arm with one seed: the loop, alike under plain torch on one process and in a process group."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from drsft.config import Arm, Train
from drsft.storage import Store
from drsft.train import checkpoint
from drsft.train.export import export_model
from drsft.train.metrics import MetricsLog
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.optimiser import make_optimiser
from drsft.train.order import RowOrder
from drsft.train.pack import PackedRows
from drsft.train.step import train_step
from drsft.train.world import World

__all__ = ["DONE_KEY", "Job", "OnStep", "Target", "jobs_of", "row_order", "train_one"]

DONE_KEY = "done.json"

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
    on_step: OnStep = lambda step, num_steps, metrics: None,
) -> dict[str, Any]:
    """Trains from the newest committed checkpoint, or from the target, to the end, and exports.

    `store` is the job's own, at `train.job_prefix` of the run's; `done.json`, created there last, is
    returned. Raises StageError, on every process at once, when the loss is no longer a number.
    """
    model = prepare(target, train, world)
    optimiser = make_optimiser(model, train)
    order = row_order(train, num_rows=len(rows), seed=job.seed)
    first_step = checkpoint.load_latest(store, model, optimiser, world=world)
    log = MetricsLog(store, num_steps_done=first_step, world=world)
    for step in range(first_step, order.num_steps):
        metrics = train_step(
            model,
            optimiser,
            step,
            objective=job.arm.objective,
            train=train,
            rows=rows,
            order=order,
            world=world,
        )
        num_done = step + 1
        log.add({"step": num_done, **metrics})
        on_step(num_done, order.num_steps, metrics)
        if num_done % train.checkpoint_every_steps == 0 and num_done < order.num_steps:
            log.write()
            checkpoint.save(store, model, optimiser, step=num_done, world=world)
    log.write()
    export_model(store, model, target=target.location, dtype=target.compute_dtype, world=world)
    return _finish(store, log, world)


def prepare(target: Target, train: Train, world: World) -> ScoringModel:
    """The model on its device, spread over the world. Alone and in fp32 there is nothing to spread."""
    causal_lm = load_model(target.location).to(world.device).train()
    model = ScoringModel(causal_lm, activation_checkpointing=train.activation_checkpointing)
    if world.size > 1 or target.compute_dtype != torch.float32:
        world.ensure_process_group()
        shard(model, world, compute_dtype=target.compute_dtype)
    return model


def _finish(store: Store, log: MetricsLog, world: World) -> dict[str, Any]:
    """Commits the job. Its wall time is that of the steps that count, each once, without export."""
    done: dict[str, Any] = {}
    if world.is_first:
        done = {
            "steps": len(log.rows),
            "loss_tokens": int(sum(row["loss_tokens"] for row in log.rows)),
            "wall_s": round(sum(row["step_s"] for row in log.rows), 3),
            "num_workers": world.size,
            "final": log.rows[-1],
        }
        store.create(DONE_KEY, json.dumps(done).encode())
    return world.from_first(done)
