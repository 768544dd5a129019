"""The arithmetic on one chunk of logits: statistics in the forward, the gradient in the backward.

Axes: C tokens of a chunk, V vocabulary. Everything is in the logits' precision, fp32 or float64. On CUDA
these functions are compiled, and then need one or two passes over the logits; plain torch needs ten.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["SoftmaxStatistics", "kl_divergence", "logit_gradient", "softmax_statistics", "top_entropy"]

P = ParamSpec("P")
R = TypeVar("R")


class SoftmaxStatistics(NamedTuple):
    """Statistics of the distribution over the vocabulary for each of the C tokens, in nats."""

    logprobs_C: Tensor
    entropy_C: Tensor
    normaliser_C: Tensor  # logsumexp
    top_logprobs_C: Tensor  # of the likeliest token


def _compiled_on_cuda(function: Callable[P, R]) -> Callable[P, R]:
    """Returns `function`, to be compiled at its first call with a CUDA tensor; on other devices it runs as it
    is.
    """

    @cache
    def compiled() -> Callable[P, R]:
        return torch.compile(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        return (compiled() if first.is_cuda else function)(*args, **kwargs)

    return call


@_compiled_on_cuda
def softmax_statistics(
    logits_CV: Tensor, labels_C: Tensor, *, entropy_epsilon: float = 0.0
) -> SoftmaxStatistics:
    """Returns the labels' log p, the entropies −Σ p log(p + epsilon), the logsumexps and the largest log p.

    Logits must be finite.
    """
    max_C1 = logits_CV.amax(-1, keepdim=True)
    shifted_CV = logits_CV - max_C1
    exps_CV = shifted_CV.exp()
    sums_C = exps_CV.sum(-1)
    log_sums_C = sums_C.log()
    logprobs_C = shifted_CV.gather(-1, labels_C[:, None]).squeeze(-1) - log_sums_C
    if entropy_epsilon:
        exps_CV /= sums_C[:, None]
        entropy_C = -(exps_CV * (exps_CV + entropy_epsilon).log()).sum(-1)
    else:  # H = log Σ e^s − Σ s e^s / Σ e^s, without a logarithm of every p
        entropy_C = log_sums_C - shifted_CV.mul_(exps_CV).sum(-1) / sums_C
    return SoftmaxStatistics(logprobs_C, entropy_C, max_C1.squeeze(-1) + log_sums_C, -log_sums_C)


def top_entropy(logits_CV: Tensor, k: int) -> Tensor:
    """Returns the entropy (C,) of the distribution over the k likeliest tokens alone; over all if V < k."""
    logp_Ck = logits_CV.topk(min(k, logits_CV.shape[-1]), dim=-1).values.log_softmax(-1)
    return -(logp_Ck.exp() * logp_Ck).sum(-1)


@_compiled_on_cuda
def kl_divergence(
    reference_CV: Tensor, logits_CV: Tensor, *, reference_normaliser_C: Tensor, normaliser_C: Tensor
) -> Tensor:
    """Returns KL(reference ‖ policy) = Σ p_ref (log p_ref − log p), (C,), over the whole vocabulary."""
    logp_CV = reference_CV - reference_normaliser_C[:, None]
    difference_CV = logp_CV - logits_CV
    difference_CV += normaliser_C[:, None]
    return difference_CV.mul_(logp_CV.exp_()).sum(-1)


@_compiled_on_cuda
def logit_gradient(
    logits_CV: Tensor,
    labels_C: Tensor,
    weight_C: Tensor,
    *,
    normaliser_C: Tensor,
    reference_CV: Tensor | None,
    reference_normaliser_C: Tensor | None,
    kl_weight: float | Tensor,  # one number, or (C, 1)
    softcap: float | None,
    dtype: torch.dtype,
) -> Tensor:
    """Returns w (softmax − onehot) + kl_weight (softmax − softmax_ref), (C, V), in `dtype`.

    With a soft cap it is the gradient before the cap: multiplied by the cap's derivative.
    """
    gradient_CV = (logits_CV - normaliser_C[:, None]).exp_()
    gradient_CV.mul_(weight_C[:, None] + kl_weight)
    gradient_CV.scatter_add_(-1, labels_C[:, None], -weight_C[:, None])
    if reference_CV is not None and reference_normaliser_C is not None:
        # Not as sub_'s alpha: in compiled code that would keep the value from compile time.
        gradient_CV.sub_((reference_CV - reference_normaliser_C[:, None]).exp_().mul_(kl_weight))
    if softcap is not None:
        gradient_CV.mul_((logits_CV / softcap).square_().neg_().add_(1))
    return gradient_CV.to(dtype)
