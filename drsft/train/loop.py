"""Training one arm with one seed: the loop, alike under plain torch on one process and in a process group.

Axes: B packed rows of a micro-batch, T tokens of a row.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drsft.config import Arm, Objective, Train
from drsft.errors import StageError
from drsft.objectives.loss import metrics_of, token_sums, weighted_nll
from drsft.objectives.weights import token_weights
from drsft.records import stable_seed
from drsft.storage import Store
from drsft.train import checkpoint
from drsft.train.export import export_model
from drsft.train.metrics import MetricsLog
from drsft.train.model import ScoringModel, load_model, shard, sync_gradients_now
from drsft.train.optimiser import (
    clip_gradients,
    learning_rate,
    make_optimiser,
    set_learning_rate,
    squared_gradient_norm,
)
from drsft.train.order import RowOrder, micro_batches
from drsft.train.pack import PackedRows
from drsft.train.world import World

__all__ = ["DONE_KEY", "Job", "OnStep", "Target", "jobs_of", "row_order", "train_one", "train_step"]

DONE_KEY = "done.json"

OnStep = Callable[[int, int, dict[str, float]], None]  # steps done, steps in all, the last step's metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One arm with one seed. The seed orders the rows and draws the dropout, where the model has any."""

    arm: Arm
    seed: int

    @property
    def prefix(self) -> str:
        return f"train/{self.arm.name}/seed-{self.seed}"

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

    `store` is the job's own, at `job.prefix` of the run's; `done.json`, created there last, is returned.
    Raises StageError, on every process at once, when the loss is no longer a number.
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
        shard(model, world, compute_dtype=target.compute_dtype)
    return model


def train_step(
    model: ScoringModel,
    optimiser: torch.optim.Optimizer,
    step: int,
    *,
    objective: Objective,
    train: Train,
    rows: PackedRows,
    order: RowOrder,
    world: World,
) -> dict[str, float]:
    """One update from the rows of `step`; its gradient is the same for any world and micro-batch size."""
    started_s = time.perf_counter()
    torch.manual_seed(stable_seed(order.seed, "dropout", str(step), str(world.rank)))
    rate = learning_rate(
        step, num_steps=order.num_steps, peak=train.learning_rate, warmup_ratio=train.warmup_ratio
    )
    set_learning_rate(optimiser, rate)
    row_indices = order.rows_of(step)
    sums, norm = accumulate(model, row_indices, objective=objective, train=train, rows=rows, world=world)
    metrics = metrics_of(sums)
    if not math.isfinite(metrics["loss"]) or not math.isfinite(norm):
        raise StageError(
            f"step {step + 1}: the loss is {metrics['loss']} and the gradient norm {norm}; "
            "lower train.learning_rate or look at the rows of this step"
        )
    clip_gradients(model.parameters(), norm=norm, max_norm=train.max_grad_norm)
    optimiser.step()
    optimiser.zero_grad()
    seconds = time.perf_counter() - started_s
    num_tokens = len(row_indices) * rows.seq_len
    return {
        **metrics,
        "grad_norm": norm,
        "learning_rate": rate,
        "step_s": seconds,
        "tokens_per_s": num_tokens / seconds,
    }


def accumulate(
    model: ScoringModel,
    row_indices: Any,
    *,
    objective: Objective,
    train: Train,
    rows: PackedRows,
    world: World,
) -> tuple[Tensor, float]:
    """Leaves the gradient of the weighted loss over `row_indices` in the model; returns `token_sums` and the
    gradient's norm, both over the world."""
    # Every process holds all rows, so the world's count needs no exchange.
    num_loss_tokens = int(rows.loss_mask_BT[row_indices].sum())
    batches = micro_batches(
        row_indices, rank=world.rank, num_ranks=world.size, micro_batch_rows=train.micro_batch_rows
    )
    sums = []
    for index, batch in enumerate(batches):
        sync_gradients_now(model, is_last_micro_batch=index == len(batches) - 1)
        statistics = model(*_inputs(rows, batch, world.device))
        weight_N = token_weights(objective, statistics)
        loss = weighted_nll(statistics, weight_N, num_loss_tokens=num_loss_tokens)
        torch.autograd.backward(loss)
        sums.append(token_sums(statistics, weight_N))
    totals = torch.cat([torch.stack(sums).sum(0), squared_gradient_norm(model.parameters())])
    totals = world.global_sum(totals).cpu()
    return totals[:-1], math.sqrt(totals[-1].item())


def _inputs(rows: PackedRows, batch: list[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The micro-batch as tensors; an empty one is a row without loss tokens, so that collectives meet."""
    chosen = batch or [0]
    loss_mask_BT = rows.loss_mask_BT[chosen] & bool(batch)
    arrays = (
        rows.input_ids_BT[chosen].astype("int64"),
        rows.position_ids_BT[chosen].astype("int64"),
        loss_mask_BT,
    )
    input_ids_BT, position_ids_BT, mask_BT = (torch.from_numpy(array).to(device) for array in arrays)
    return input_ids_BT, position_ids_BT, mask_BT


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
