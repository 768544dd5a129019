"""One optimiser step: the gradient of the weighted loss over its rows, alike for any split of the work.

Axes: T tokens of a micro-batch, its documents end to end, N loss tokens of a micro-batch.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drsft.config import Objective, Train
from drsft.errors import StageError
from drsft.objectives.loss import metrics_of, token_sums, weighted_nll
from drsft.objectives.weights import token_weights
from drsft.records import stable_seed
from drsft.train.model import ScoringModel, sync_gradients_now
from drsft.train.optimiser import (
    clip_gradients,
    learning_rate,
    set_learning_rate,
    squared_gradient_norm,
)
from drsft.train.order import RowOrder, micro_batches
from drsft.train.pack import PackedRows
from drsft.train.world import World

__all__ = ["accumulate_gradient", "train_step"]


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
    sums, norm = accumulate_gradient(
        model, row_indices, objective=objective, train=train, rows=rows, world=world
    )
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
    num_tokens = rows.num_tokens(row_indices)
    return {
        **metrics,
        "grad_norm": norm,
        "learning_rate": rate,
        "step_s": seconds,
        "tokens_per_s": num_tokens / seconds,
    }


def accumulate_gradient(
    model: ScoringModel,
    row_indices: Sequence[int] | NDArray[np.int64],
    *,
    objective: Objective,
    train: Train,
    rows: PackedRows,
    world: World,
) -> tuple[Tensor, float]:
    """Leaves the gradient of the weighted loss over `row_indices` in the model; returns `token_sums` and the
    gradient's norm, both over the world."""
    # Every process holds all rows, so the world's count needs no exchange.
    num_loss_tokens = rows.num_loss_tokens(row_indices)
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


def _inputs(
    rows: PackedRows, batch: list[int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """The micro-batch as the model takes it; an empty one is a row without loss tokens, so that collectives
    meet."""
    documents = rows.documents(batch or [0])
    arrays = (
        documents.input_ids_T.astype("int64"),
        documents.position_ids_T,
        documents.loss_mask_T & bool(batch),
    )
    input_ids_T, position_ids_T, mask_T = (torch.from_numpy(array).to(device) for array in arrays)
    return input_ids_T, position_ids_T, mask_T, documents.lengths
