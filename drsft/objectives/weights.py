"""Objectives as pure functions from per-token numbers to a detached weight.

Axes: T loss tokens of one micro-batch.

Every objective here is reweighted cross-entropy: its loss is Σ w_t · (−log p_t) / N with w_t held constant,
so its gradient at the logits is w_t (softmax − onehot) / N.
"""

from typing import assert_never

import torch
from torch import Tensor

from drsft.config import Dft, Objective, Sft
from drsft.objectives.statistics import TokenStatistics

__all__ = ["dft_weight", "sft_weight", "token_weights"]


def token_weights(objective: Objective, statistics: TokenStatistics) -> Tensor:
    """The weight of each token under `objective`; carries no gradient. The one place that reads the union."""
    match objective:
        case Sft():
            return sft_weight(statistics.logprobs_T)
        case Dft():
            return dft_weight(statistics.logprobs_T)
        case _:
            assert_never(objective)


def sft_weight(logprobs_T: Tensor) -> Tensor:
    """1 everywhere: plain cross-entropy."""
    return torch.ones_like(logprobs_T, requires_grad=False)


def dft_weight(logprobs_T: Tensor) -> Tensor:
    """p_t (arXiv 2508.05629, eq. 9), which cancels the 1/p that SFT's gradient hides.

    [ln .5, ln .05] -> [.5, .05]
    Without the detachment the gradient would be (1 + log p) ∇p, which changes sign at p = 1/e.
    """
    return logprobs_T.detach().exp()
