"""Held-out rows under the model as it is; all processes share the work."""

import torch

from drsft.train.model import ScoringModel
from drsft.train.pack import PackedRows
from drsft.train.reference import score
from drsft.train.world import World

__all__ = ["VALIDATION_CE", "validate"]

VALIDATION_CE = "validation_ce"


def validate(
    model: ScoringModel, rows: PackedRows, *, micro_batch_rows: int, world: World
) -> dict[str, float]:
    """Means over the loss tokens: cross-entropy in nats, whatever the objective, and p.

    Cross-entropy compares arms and steps; a weighted loss such as DFT's is not monotone in p.
    """
    was_training = model.training
    model.eval()
    scores = score(model, rows, range(len(rows)), micro_batch_rows=micro_batch_rows, world=world)
    model.train(was_training)
    logprobs = scores.logprobs_N.cpu()[torch.from_numpy(rows.loss_mask_N)].double()
    return {VALIDATION_CE: -logprobs.mean().item(), "validation_p": logprobs.exp().mean().item()}
