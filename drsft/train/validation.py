"""Scores held-out rows under the current model; all processes share the work."""

from drsft.train.model import ScoringModel
from drsft.train.pack import PackedRows
from drsft.train.scores import score
from drsft.train.world import World

__all__ = ["VALIDATION_CE", "validate"]

VALIDATION_CE = "validation_ce"


def validate(
    model: ScoringModel, rows: PackedRows, *, micro_batch_rows: int, world: World
) -> dict[str, float]:
    """Returns means over the loss tokens: cross-entropy in nats, p, and the share that greedy decoding would
    choose.

    Each token is predicted from all true tokens before it. Cross-entropy is the same for every objective, so
    it compares arms and steps; a weighted loss such as DFT's is not monotone in p.
    """
    was_training = model.training
    model.eval()
    everything = range(len(rows))
    scores = score(model, rows, everything, micro_batch_rows=micro_batch_rows, world=world)
    model.train(was_training)
    loss_tokens = scores.places.loss_tokens(rows, everything)
    logprobs = scores.logprobs_T.cpu()[loss_tokens].double()
    assert scores.is_top_T is not None
    return {
        VALIDATION_CE: -logprobs.mean().item(),
        "validation_p": logprobs.exp().mean().item(),
        "validation_accuracy": scores.is_top_T.cpu()[loss_tokens].double().mean().item(),
    }
