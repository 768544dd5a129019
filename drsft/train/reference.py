"""Provides what objectives compare the model with: its frozen start, and an earlier snapshot of itself.

The start's log-probs are scored once and stored beside the packed rows: 4 bytes a token. If an objective
needs the start's whole distribution, a frozen copy of the model is kept: 2 bytes a parameter in bf16 over all
workers (4 in fp32), besides 16 for weights, gradients and optimiser. A model trained through adapters needs
no copy: with the adapters off, it is its own start.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch

from drsft.objectives.head import Head
from drsft.objectives.loss import FrozenStart
from drsft.policy.prompts import text_patterns
from drsft.run.layout import START_LOGPROBS
from drsft.storage import Store
from drsft.train.job import Training
from drsft.train.lora import adapters_off, has_adapters
from drsft.train.micro_batch import MicroBatch
from drsft.train.model import ScoringModel
from drsft.train.prepare import prepare_start
from drsft.train.scores import Places, Scores, score

__all__ = ["References", "frozen_start", "gather_references", "start_scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    start: Scores | None = None
    start_model: ScoringModel | None = None
    snapshot: Scores | None = None
    median_loss: float | None = None  # over the step's documents, from the snapshot
    exempt_patterns: tuple[tuple[int, ...], ...] = ()  # token ids of the guards' texts


def gather_references(training: Training, model: ScoringModel, store: Store | None) -> References:
    """Returns the log-probs and models that the job's objective compares with; call it before the first
    update.

    `store` caches the start's log-probs for the other jobs that train on the same rows. With adapters, which
    can be switched off, no frozen copy of the model is needed. If the objective compares two passes, it
    switches off all random draws of `model`.
    """
    needs = training.objective.needs
    start = start_model = None
    if needs.compares:
        model.draw_nothing()
    if needs.start_logprobs:
        start = start_scores(training, model, store)
    if needs.start_model and not has_adapters(model.causal_lm):
        start_model = prepare_start(training)
    patterns = text_patterns(training.job.arm.guards.exempt_texts, training.target.location)
    return References(start=start, start_model=start_model, exempt_patterns=patterns)


def start_scores(training: Training, model: ScoringModel, store: Store | None) -> Scores:
    """Returns the scores of all rows under the untrained model: read from `store`, or computed and stored."""
    rows, world = training.rows, training.world
    everything = range(len(rows))
    if store is not None and world.from_first(store.exists(START_LOGPROBS)):
        kept = np.load(BytesIO(store.read(START_LOGPROBS)))
        return Scores(places=Places.of(rows, everything), logprobs_T=torch.from_numpy(kept).to(world.device))
    scores = score(model, rows, everything, micro_batch_rows=training.settings.micro_batch_rows, world=world)
    if store is not None and world.is_first:
        buffer = BytesIO()
        np.save(buffer, scores.logprobs_T.cpu().numpy())
        store.put(START_LOGPROBS, buffer.getvalue())
    return scores


def frozen_start(model: ScoringModel, batch: MicroBatch, references: References) -> FrozenStart:
    """Returns the start's hidden states on a micro-batch, from its copy or with the adapters off.

    The head is the copy's own, so the copy must not be resharded before the head is used.
    """
    start_model = references.start_model
    without = nullcontext() if start_model is not None else adapters_off(model.causal_lm)
    with torch.no_grad(), without:
        hidden_ND, weight_VD, bias_V = (start_model or model)(*batch.inputs, None)
    head = Head(weight_VD=weight_VD, bias_V=bias_V, shape=model.head_shape)
    return FrozenStart(hidden_ND=hidden_ND, head=head)
