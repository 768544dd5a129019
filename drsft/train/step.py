"""Makes one optimiser step; its gradient is the same for any split of the work.

Axes: T tokens of a micro-batch, its documents end to end, N loss tokens of a micro-batch.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drsft.config import Guards, Objective, Train
from drsft.errors import StageError
from drsft.objectives.loss import LossRequest
from drsft.objectives.meters import metrics_of, token_sums
from drsft.objectives.weights import TokenContext
from drsft.records import stable_seed
from drsft.train.job import Training
from drsft.train.micro_batch import MicroBatch, micro_batch, split_rows
from drsft.train.model import ScoringModel, reshard, sync_gradients_now
from drsft.train.optimiser import (
    clip_gradients,
    learning_rate,
    set_learning_rate,
    squared_gradient_norm,
)
from drsft.train.pack import PackedRows
from drsft.train.reference import References, frozen_start
from drsft.train.scores import Scores
from drsft.train.world import World

__all__ = ["accumulate_gradient", "train_step"]

NO_GUARDS, NO_REFERENCES = Guards(), References()


def train_step(
    training: Training,
    model: ScoringModel,
    optimiser: torch.optim.Optimizer,
    step: int,
    *,
    references: References = NO_REFERENCES,
) -> dict[str, float]:
    """Makes one update from the rows of `step` and returns its metrics.

    The gradient is the same for any number of processes and any micro-batch size. Raises StageError if the
    loss or the gradient is not finite.
    """
    started_s = time.perf_counter()
    settings, arm, order = training.settings, training.job.arm, training.order
    torch.manual_seed(stable_seed(order.seed, "dropout", str(step), str(training.world.rank)))
    rate = learning_rate(
        step, num_steps=order.num_steps, peak=settings.learning_rate, warmup_ratio=settings.warmup_ratio
    )
    set_learning_rate(optimiser, rate)
    row_indices = order.rows_of(step)
    sums, norm = accumulate_gradient(
        model,
        row_indices,
        objective=arm.objective,
        guards=arm.guards,
        references=references,
        progress=step / order.num_steps,
        train=settings,
        rows=training.rows,
        world=training.world,
    )
    metrics = metrics_of(sums)
    _check_finite(step, metrics["loss"], norm)
    clip_gradients(model.parameters(), norm=norm, max_norm=settings.max_grad_norm)
    optimiser.step()
    optimiser.zero_grad()
    seconds = time.perf_counter() - started_s
    tokens_per_s = training.rows.num_tokens(row_indices) / seconds
    measured = {"grad_norm": norm, "learning_rate": rate, "step_s": seconds, "tokens_per_s": tokens_per_s}
    return metrics | measured


def _check_finite(step: int, loss: float, gradient_norm: float) -> None:
    if not math.isfinite(loss) or not math.isfinite(gradient_norm):
        raise StageError(
            f"step {step + 1}: the loss is {loss} and the gradient norm {gradient_norm}; "
            "lower train.learning_rate or look at the rows of this step"
        )


def accumulate_gradient(
    model: ScoringModel,
    row_indices: Sequence[int] | NDArray[np.int64],
    *,
    objective: Objective,
    train: Train,
    rows: PackedRows,
    world: World,
    guards: Guards = NO_GUARDS,
    references: References = NO_REFERENCES,
    progress: float = 1.0,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, float]:
    """Adds the gradient of the weighted loss over `row_indices` to the model's gradients.

    Returns `token_sums` and the gradient's norm, both over all processes.
    """
    # Every process holds all rows, so the world's count needs no exchange.
    num_loss_tokens = rows.loss_weight(row_indices, thought_weight=train.thought_weight)
    batches = split_rows(
        rows,
        row_indices,
        micro_batch_rows=train.micro_batch_rows,
        by_tokens=model.attends_by_document,
        world=world,
    )
    request = LossRequest(
        num_loss_tokens=num_loss_tokens, objective=objective, guards=guards, chunk_tokens=chunk_tokens
    )
    sums = []
    for index, batch_rows in enumerate(batches):
        sync_gradients_now(model, is_last_micro_batch=index == len(batches) - 1)
        batch = micro_batch(rows, batch_rows, world.device, exempt_patterns=references.exempt_patterns)
        context = _context(batch, batch_rows, rows, guards, references, progress)
        if 0 < train.thought_weight < 1:
            share_N = torch.ones_like(batch.is_thought_N, dtype=torch.float32)
            context = replace(context, share_N=share_N.masked_fill_(batch.is_thought_N, train.thought_weight))
        start = frozen_start(model, batch, references) if objective.needs.start_model else None
        fused = model(*batch.inputs, replace(request, context=context, start=start))
        if references.start_model is not None:
            reshard(references.start_model)  # its head was needed until here
        torch.autograd.backward(fused.loss)
        sums.append(
            token_sums(
                fused, is_last_N=batch.is_last_N, is_thought_N=batch.is_thought_N, share_N=context.share_N
            )
        )
    totals = torch.cat([torch.stack(sums).sum(0), squared_gradient_norm(model.parameters())])
    totals = world.global_sum(totals).cpu()
    return totals[:-1], math.sqrt(totals[-1].item() / world.num_copies)


def _context(
    batch: MicroBatch,
    batch_rows: list[int],
    rows: PackedRows,
    guards: Guards,
    references: References,
    progress: float,
) -> TokenContext:
    """Returns what the objective may need for the micro-batch's loss tokens."""
    device = batch.document_ids_N.device

    def of(scores: Scores | None) -> Tensor | None:
        return None if scores is None else scores.of(rows, batch_rows).to(device)

    is_exempt_N = batch.is_exempt_N | batch.is_last_N if guards.exempt_end_of_turn else batch.is_exempt_N
    return TokenContext(
        start_logprobs_N=of(references.start),
        old_logprobs_N=of(references.snapshot),
        document_ids_N=batch.document_ids_N,
        is_exempt_N=is_exempt_N,
        median_loss=references.median_loss,
        progress=progress,
    )
