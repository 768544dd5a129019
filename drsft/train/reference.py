"""What a policy is compared with while it trains: the frozen start, and itself some steps ago.

Axes: N tokens of all rows end to end (also those without a loss, where nothing is looked up).

The start's log-probs are scored once and kept beside the packed rows: 4 bytes a token. Where an objective
needs the start's whole distribution, a frozen copy of it runs along: 2 bytes a parameter in bf16 over all
workers (4 in fp32), beside 16 for weights, gradients and optimiser; a model trained through adapters needs no
copy, since without them it is its start.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drsft.config import Arm
from drsft.config.objectives import Objective, Sft
from drsft.objectives.documents import median_document_loss
from drsft.objectives.head import Head
from drsft.objectives.loss import FrozenStart, LossRequest
from drsft.objectives.needs import needs_of
from drsft.policy.prompts import text_patterns
from drsft.storage import Store
from drsft.train.lora import adapters_off, has_adapters
from drsft.train.micro_batch import MicroBatch, micro_batch
from drsft.train.model import ScoringModel, reshard
from drsft.train.order import RowOrder, micro_batches
from drsft.train.pack import PackedRows
from drsft.train.world import World

__all__ = [
    "References",
    "Scores",
    "frozen_start",
    "gather_references",
    "score",
    "start_scores",
    "switch_dropout_off",
    "take_snapshot",
]

START_KEY = "start-logprobs.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Tokens under one model, fp32; 0 where nothing was scored."""

    logprobs_N: Tensor
    is_top_N: Tensor | None = None  # 1 where greedy decoding would have chosen the token; not kept in files

    def of(self, rows: PackedRows, row_indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Of the loss tokens of the rows, in order."""
        return self.logprobs_N[loss_places(rows, row_indices)]


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    start: Scores | None = None
    start_model: ScoringModel | None = None
    snapshot: Scores | None = None
    median_loss: float | None = None  # over the step's documents, from the snapshot
    exempt_patterns: tuple[tuple[int, ...], ...] = ()  # token ids of the guards' texts


def loss_places(rows: PackedRows, row_indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """Where the loss tokens of the rows lie among all tokens."""
    spans = [np.arange(*rows.span(int(row))) for row in row_indices]
    places = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
    return torch.from_numpy(places[rows.loss_mask_N[places]])


def gather_references(
    arm: Arm,
    model: ScoringModel,
    *,
    start_model: Callable[[], ScoringModel],
    location: str,
    micro_batch_rows: int,
    rows: PackedRows,
    store: Store | None,
    world: World,
) -> References:
    """What the arm's objective compares with, from a model that is still untrained.

    `start_model` makes another one, which stays as it is; adapters that can be switched off make it needless.
    """
    needs = needs_of(arm.objective)
    start = frozen = None
    if needs.compares:
        switch_dropout_off(model.causal_lm)
    if needs.start_logprobs:
        start = start_scores(store, model, rows, micro_batch_rows=micro_batch_rows, world=world)
    if needs.start_model and not has_adapters(model.causal_lm):
        frozen = start_model()
    patterns = text_patterns(arm.guards.exempt_texts, location)
    return References(start=start, start_model=frozen, exempt_patterns=patterns)


@torch.no_grad()
def score(
    model: ScoringModel,
    rows: PackedRows,
    row_indices: Sequence[int] | NDArray[np.int64],
    *,
    micro_batch_rows: int,
    world: World,
) -> Scores:
    """The loss tokens of some rows under the model as it is; all processes call it and share the work."""
    scores_2N = torch.zeros(2, len(rows.input_ids_N), dtype=torch.float32, device=world.device)
    request = LossRequest(num_loss_tokens=1, objective=Sft())
    batches = micro_batches(
        row_indices, rank=world.rank, num_ranks=world.size, micro_batch_rows=micro_batch_rows
    )
    for batch in batches:
        scored = model(*micro_batch(rows, batch, world.device).inputs, request)
        places = loss_places(rows, batch).to(world.device)
        scores_2N[0, places] = scored.statistics.logprobs_T.float()
        scores_2N[1, places] = scored.statistics.is_top_T.float()
    reshard(model)
    logprobs_N, is_top_N = world.global_sum(scores_2N)
    return Scores(logprobs_N=logprobs_N, is_top_N=is_top_N)


def start_scores(
    store: Store | None,
    model: ScoringModel,
    rows: PackedRows,
    *,
    micro_batch_rows: int,
    world: World,
) -> Scores:
    """Of all rows under a model that is still untrained; read from `store`, or scored and kept there."""
    if store is not None and world.from_first(store.exists(START_KEY)):
        kept = np.load(BytesIO(store.read(START_KEY)))
        return Scores(logprobs_N=torch.from_numpy(kept).to(world.device))
    scores = score(model, rows, range(len(rows)), micro_batch_rows=micro_batch_rows, world=world)
    if store is not None and world.is_first:
        buffer = BytesIO()
        np.save(buffer, scores.logprobs_N.cpu().numpy())
        store.put(START_KEY, buffer.getvalue())
    return scores


def take_snapshot(
    references: References,
    model: ScoringModel,
    step: int,
    *,
    objective: Objective,
    micro_batch_rows: int,
    rows: PackedRows,
    order: RowOrder,
    world: World,
) -> References:
    """With the policy's own log-probs for this step's rows, scored anew every `steps_per_snapshot` steps.

    The head is the copy's own: the copy may be resharded only once it is no longer needed.
    """
    every = needs_of(objective).steps_per_snapshot
    if every is None:
        return references
    snapshot = references.snapshot
    if snapshot is None or step % every == 0:
        window = range(step, min(step - step % every + every, order.num_steps))
        wanted = np.unique(np.concatenate([order.rows_of(one) for one in window]))
        snapshot = score(model, rows, wanted, micro_batch_rows=micro_batch_rows, world=world)
    step_rows = order.rows_of(step)
    documents = micro_batch(rows, [int(row) for row in step_rows], torch.device("cpu"))
    median = median_document_loss(snapshot.of(rows, step_rows).cpu(), documents.document_ids_N)
    return replace(references, snapshot=snapshot, median_loss=median)


def frozen_start(model: ScoringModel, batch: MicroBatch, references: References) -> FrozenStart:
    """The start's hidden states on a micro-batch, from its copy or from the model without its adapters."""
    start_model = references.start_model
    without = nullcontext() if start_model is not None else adapters_off(model.causal_lm)
    with torch.no_grad(), without:
        hidden_ND, weight_VD, bias_V = (start_model or model)(*batch.inputs, None)
    head = Head(weight_VD=weight_VD, bias_V=bias_V, shape=model.head_shape)
    return FrozenStart(hidden_TD=hidden_ND, head=head)


def switch_dropout_off(causal_lm: Any) -> None:
    """Two passes over the same tokens must differ by the weights alone.

    Many models keep a share as a plain number, for a function that drops, under names of their own: dropout,
    activation_dropout, layerdrop, resid_pdrop, …
    """
    for module in causal_lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
