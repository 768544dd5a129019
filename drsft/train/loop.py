"""Training one arm with one seed: the loop, alike under plain torch on one process and in a process group."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from drsft.config import Arm, Train
from drsft.objectives.health import troubles
from drsft.objectives.needs import needs_of
from drsft.policy.prompts import text_patterns
from drsft.storage import Store
from drsft.train import checkpoint
from drsft.train.export import export_model
from drsft.train.metrics import MetricsLog
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.optimiser import make_optimiser
from drsft.train.order import RowOrder
from drsft.train.pack import PackedRows
from drsft.train.reference import References, start_scores, switch_dropout_off, take_snapshot
from drsft.train.step import train_step
from drsft.train.world import World

__all__ = ["DONE_KEY", "Job", "OnStep", "Target", "jobs_of", "row_order", "train_one"]

DONE_KEY = "done.json"

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
    rows_store: Store | None = None,
    on_step: OnStep = lambda step, num_steps, metrics: None,
) -> dict[str, Any]:
    """Trains from the newest committed checkpoint, or from the target, to the end, and exports.

    `store` is the job's own, at `train.job_prefix` of the run's; `done.json`, created there last, is
    returned. `rows_store`, shared by the jobs of the same rows, keeps what the frozen start makes of them.
    Raises StageError, on every process at once, when the loss is no longer a number.
    """
    model = prepare(target, train, world)
    references = _references(
        job.arm, model, target=target, train=train, rows=rows, store=rows_store, world=world
    )
    optimiser = make_optimiser(model, train)
    order = row_order(train, num_rows=len(rows), seed=job.seed)
    first_step = checkpoint.load_latest(store, model, optimiser, world=world)
    log = MetricsLog(store, num_steps_done=first_step, world=world)
    warned: set[str] = set()
    for step in range(first_step, order.num_steps):
        setting: dict[str, Any] = {"rows": rows, "order": order, "world": world}
        references = take_snapshot(
            references,
            model,
            step,
            objective=job.arm.objective,
            micro_batch_rows=train.micro_batch_rows,
            **setting,
        )
        metrics = train_step(
            model, optimiser, step, arm=job.arm, train=train, references=references, **setting
        )
        num_done = step + 1
        log.add({"step": num_done, **metrics})
        if world.is_first:
            _warn(job, log, warned)
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


def _references(
    arm: Arm,
    model: ScoringModel,
    *,
    target: Target,
    train: Train,
    rows: PackedRows,
    store: Store | None,
    world: World,
) -> References:
    """What the arm's objective compares with, from a model that is still untrained."""
    needs = needs_of(arm.objective)
    start = start_model = None
    if needs.compares:
        switch_dropout_off(model.causal_lm)
    if needs.start_logprobs:
        start = start_scores(store, model, rows, micro_batch_rows=train.micro_batch_rows, world=world)
    if needs.start_model and not hasattr(model.causal_lm, "disable_adapter"):
        start_model = prepare(target, train, world).eval().requires_grad_(False)
    patterns = text_patterns(arm.guards.exempt_texts, target.location)
    return References(start=start, start_model=start_model, exempt_patterns=patterns)


def _warn(job: Job, log: MetricsLog, warned: set[str]) -> None:
    """Says each trouble once, when it begins."""
    for name, text in troubles(log.rows).items():
        if name not in warned:
            warned.add(name)
            logger.warning("%s, step %d: %s", job, len(log.rows), text)


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
            "troubles": list(troubles(log.rows).values()),
        }
        store.create(DONE_KEY, json.dumps(done).encode())
    return world.from_first(done)
