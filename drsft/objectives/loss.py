"""The weighted negative log-likelihood, and the meters that are always read beside it.

Axes: T loss tokens of one micro-batch.

The loss is divided by the number of loss tokens of the whole step, over all micro-batches and workers.
Gradients are then sums, and the same for any micro-batch size, packing, accumulation or world size; a mean of
micro-batch means is not.
"""

import torch
from torch import Tensor

from drsft.objectives.statistics import TokenStatistics

__all__ = ["metrics_of", "token_sums", "weighted_nll"]


def weighted_nll(statistics: TokenStatistics, weight_T: Tensor, *, num_loss_tokens: int) -> Tensor:
    """Σ w_t · (−log p_t) / N, a scalar. `num_loss_tokens` is N of the whole step, not of this micro-batch.

    p = [.5, .05], w = p, N = 2  ->  (.5 · .693 + .05 · 2.996) / 2 = .248
    """
    if weight_T.requires_grad:
        raise ValueError("weights are constants of the loss: detach them")
    return -(weight_T * statistics.logprobs_T).sum() / num_loss_tokens


def token_sums(statistics: TokenStatistics, weight_T: Tensor) -> Tensor:
    """Sums over T in float64, which add up over micro-batches and workers; `metrics_of` reads them."""
    ce_T = -statistics.logprobs_T.detach().double()
    weights_T = weight_T.double()
    columns = (
        torch.ones_like(ce_T),
        weights_T * ce_T,
        ce_T,
        ce_T.neg().exp(),
        statistics.entropy_T.double(),
        weights_T,
        weights_T.square(),
    )
    return torch.stack(columns).sum(-1)


def metrics_of(sums: Tensor) -> dict[str, float]:
    """Means per loss token from the step's `token_sums`.

    `loss` is what was minimised (for DFT it is non-monotone in p and at most 1/e, so compare arms by `ce`).
    `effective_sample_size` is (Σw)² / (N Σw²): the share of tokens that the weights leave in effect, 1 for
    SFT.
    """
    tokens, weighted_ce, ce, p, entropy, weight, squared_weight = sums.tolist()
    return {
        "loss": weighted_ce / tokens,
        "ce": ce / tokens,
        "mean_p": p / tokens,
        "entropy": entropy / tokens,
        "phi": (entropy - ce) / tokens,
        "mean_weight": weight / tokens,
        "effective_sample_size": weight**2 / (tokens * squared_weight) if squared_weight else 0.0,
        "loss_tokens": tokens,
    }
