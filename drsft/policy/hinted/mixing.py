"""The numbers of Hinted Decoding: how two contexts of one problem become one distribution (arXiv 2602.12222).

Axes: B problems, V (padded) vocabulary. Natural logarithms. Results have the dtype of the logits given; give
float32 or float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drsft.config import Constant, Linear, Piecewise, Schedule, Sigmoid

__all__ = [
    "Mixture",
    "draw",
    "entropy",
    "mix",
    "mixing_weight",
    "normalised_entropy",
    "nucleus",
    "sampling_logprobs",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The result of `mix` for the next token of B rows: the mixed distribution, and how it was weighted."""

    entropy_B: Tensor  # of the hinted context, nats
    weight_B: Tensor  # λ, of the plain context
    log_scores_BV: Tensor  # (1 - λ) log p + λ log q, not normalised
    logprobs_BV: Tensor  # the same, normalised


def mix(
    hinted_logits_BV: Tensor,
    plain_logits_BV: Tensor,
    schedule: Schedule,
    *,
    vocab_size: int,
    forced_weight_B: Tensor | None = None,
) -> Mixture:
    """Mixes two distributions of the next token geometrically: log m = (1-λ) log p + λ log q, then
    normalised.

    p is the hinted context's distribution and q the plain one's. `forced_weight_B` is λ where it is not NaN;
    elsewhere the schedule computes λ from the entropy of p, divided by ln `vocab_size` (padding included).
    """
    hinted_BV, plain_BV = hinted_logits_BV.log_softmax(-1), plain_logits_BV.log_softmax(-1)
    entropy_B = entropy(hinted_BV)
    weight_B = mixing_weight(normalised_entropy(entropy_B, vocab_size=vocab_size), schedule)
    if forced_weight_B is not None:
        weight_B = torch.where(forced_weight_B.isnan(), weight_B, forced_weight_B.to(weight_B))
    weight_B1 = weight_B[:, None]
    mixed_BV = (1 - weight_B1) * hinted_BV + weight_B1 * plain_BV
    # At λ = 0 or 1 return one side: 0 · -inf would be NaN if the other side rules a token out.
    log_scores_BV = torch.where(weight_B1 == 0, hinted_BV, torch.where(weight_B1 == 1, plain_BV, mixed_BV))
    return Mixture(
        entropy_B=entropy_B,
        weight_B=weight_B,
        log_scores_BV=log_scores_BV,
        logprobs_BV=log_scores_BV.log_softmax(-1),
    )


def entropy(logprobs_BV: Tensor) -> Tensor:
    """Returns the entropy of each row in nats, shape (B,); a token of probability 0 adds nothing."""
    probs_BV = logprobs_BV.exp()
    return -torch.where(probs_BV > 0, probs_BV * logprobs_BV, 0).sum(-1)


def normalised_entropy(entropy_B: Tensor, *, vocab_size: int) -> Tensor:
    """Returns the entropy divided by ln(vocabulary size), in 0..1; 0 for a vocabulary of one token."""
    return entropy_B / math.log(max(vocab_size, 2))


def mixing_weight(normalised_entropy_B: Tensor, schedule: Schedule) -> Tensor:
    """Returns λ, the weight of the plain context, shape (B,), which `schedule` gives for the hinted context's
    normalised entropy.
    """
    match schedule:
        case Linear(beta=beta):
            return (beta * normalised_entropy_B).clamp(0, 1)
        case Sigmoid(beta=beta, centre=centre):
            return torch.sigmoid(beta * (normalised_entropy_B - centre))
        case Piecewise(low=low, high=high):
            return ((normalised_entropy_B - low) / (high - low)).clamp(0, 1)
        case Constant(weight=weight):
            return torch.full_like(normalised_entropy_B, weight)


def sampling_logprobs(
    logprobs_BV: Tensor, *, temperature: float, top_p: float, temperature_first: bool = False
) -> Tensor:
    """Returns the log-probs (B, V) to draw from; `logprobs_BV` are those of the mixture of plain and hinted
    prompt.

    Top-p comes first and temperature second, as in the demo of Hinted Decoding's authors; `temperature_first`
    is vLLM's order. Temperature 0 is greedy: the most likely token (the first of equals) has log-prob 0.
    """
    if temperature == 0:
        greedy_B1 = logprobs_BV.argmax(-1, keepdim=True)
        return torch.full_like(logprobs_BV, -math.inf).scatter(-1, greedy_B1, 0.0)
    if temperature_first:
        return nucleus((logprobs_BV / temperature).log_softmax(-1), top_p).log_softmax(-1)
    return (nucleus(logprobs_BV, top_p) / temperature).log_softmax(-1)


def nucleus(logprobs_BV: Tensor, top_p: float) -> Tensor:
    """Returns the log-probs with -inf outside the smallest set of most likely tokens whose mass exceeds
    `top_p`; they are not normalised again.
    """
    if top_p >= 1:
        return logprobs_BV
    sorted_BV, order_BV = logprobs_BV.sort(dim=-1, descending=True, stable=True)
    # A token is kept while the ones before it have no more than top_p together.
    before_BV = sorted_BV.exp().cumsum(-1).roll(1, -1)
    before_BV[:, 0] = 0
    is_outside_BV = torch.empty_like(before_BV, dtype=torch.bool).scatter(-1, order_BV, before_BV > top_p)
    return logprobs_BV.masked_fill(is_outside_BV, -math.inf)


def draw(logprobs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Draws one token id for each row, shape (B,), by inverting the distribution at `uniform_B` (float64, in
    [0, 1)).
    """
    cumulative_BV = logprobs_BV.double().exp().cumsum(-1)
    target_B1 = (uniform_B.to(cumulative_BV) * cumulative_BV[:, -1])[:, None]
    return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]
