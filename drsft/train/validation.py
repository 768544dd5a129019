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
    """Means over the loss tokens: cross-entropy in nats, whatever the objective, p, and the share that greedy
    decoding would have chosen, given all before them.

    Cross-entropy compares arms and steps; a weighted loss such as DFT's is not monotone in p.
    """
    was_training = model.training
    model.eval()
    scores = score(model, rows, range(len(rows)), micro_batch_rows=micro_batch_rows, world=world)
    model.train(was_training)
    is_loss_N = torch.from_numpy(rows.loss_mask_N)
    logprobs = scores.logprobs_N.cpu()[is_loss_N].double()
    assert scores.is_top_N is not None
    return {
        VALIDATION_CE: -logprobs.mean().item(),
        "validation_p": logprobs.exp().mean().item(),
        "validation_accuracy": scores.is_top_N.cpu()[is_loss_N].double().mean().item(),
    }
