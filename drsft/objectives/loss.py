"""Computes the loss of every objective, fused with the head: neither forward nor backward holds the logits of
all tokens at once.

Axes: N loss tokens of one micro-batch, C tokens of a chunk, D hidden size, V vocabulary.

A weight is constant in the loss and depends only on numbers known from a chunk's logits. So the chunk's
gradient is computed at once and its logits are never needed again: three matrix products, as with full
logits. If a weight depends on a whole completion, a pass for the statistics comes first.

The loss is divided by the number of loss tokens of the whole step, over all micro-batches and workers.
Gradients are then sums, and do not depend on micro-batch size, packing, accumulation or world size. A mean of
micro-batch means would depend on them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drsft.config.objectives import Guards, Needs, Objective
from drsft.objectives.chunk_size import GPU_LOSS
from drsft.objectives.head import Head, HeadShape
from drsft.objectives.head_gradients import HeadGradients
from drsft.objectives.kernels import (
    kl_divergence,
    logit_gradient,
    softmax_statistics,
    top_entropy,
)
from drsft.objectives.statistics import (
    TokenStatistics,
    check_alignment,
    logit_chunks,
    row_slices,
    token_statistics,
)
from drsft.objectives.weights import TokenContext, TokenTerms, guarded_terms, shared_terms, token_terms

Numbers = TypeVar("Numbers", TokenStatistics, TokenTerms)

__all__ = ["FrozenStart", "FusedLoss", "LossRequest", "fused_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenStart:
    """The frozen starting model's hidden states and head for the same tokens."""

    hidden_ND: Tensor
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRequest:
    """All inputs of a micro-batch's loss except hidden states, head and labels."""

    num_loss_tokens: float  # of the whole step; a token with a share counts as its share
    objective: Objective
    guards: Guards = field(default_factory=Guards)
    context: TokenContext = field(default_factory=TokenContext)
    start: FrozenStart | None = None  # for objectives with a KL term
    chunk_tokens: int | None = None  # of one product with the head; None: as the device likes it


class FusedLoss(NamedTuple):
    """The loss, and each token's statistics, loss and weight. Only `loss` carries a gradient.

    It is a named tuple because of FSDP; see TokenStatistics.
    """

    loss: Tensor  # Σ loss_N / num_loss_tokens
    statistics: TokenStatistics
    terms: TokenTerms


def fused_loss(hidden_ND: Tensor, head: Head, labels_N: Tensor, request: LossRequest) -> FusedLoss:
    """Returns the loss of `labels_N`, where row n of `hidden_ND` predicts `labels_N[n]`.

    Its gradient reaches the hidden states and the head's weight and bias. Backward can run once only, even
    with retain_graph. Raises ValueError if the request lacks what its objective needs.
    """
    check_alignment(hidden_ND, labels_N)
    needs = request.objective.needs
    if needs.start_model != (request.start is not None):
        raise ValueError(
            f"{request.objective.kind}: request.start must be set if the objective has a KL term to the "
            "frozen start, and must be None otherwise"
        )
    known_terms = None
    if needs.whole_documents:
        statistics = token_statistics(hidden_ND, head, labels_N, chunk_tokens=request.chunk_tokens)
        known_terms = _terms(request, statistics, request.context)
    apply: Callable[..., tuple[Tensor, TokenStatistics, TokenTerms]] = _FusedLoss.apply
    arguments = (labels_N, head.shape, request, known_terms, torch.is_grad_enabled())
    return FusedLoss(*apply(hidden_ND, head.weight_VD, head.bias_V, *arguments))


def _terms(request: LossRequest, statistics: TokenStatistics, context: TokenContext) -> TokenTerms:
    terms = token_terms(request.objective, statistics, context)
    guarded = guarded_terms(terms, statistics.logprobs_N, request.guards, context.is_exempt_N)
    return shared_terms(guarded, context.share_N)


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        shape: HeadShape,
        request: LossRequest,
        known_terms: TokenTerms | None,
        is_trained: bool,
    ) -> tuple[Tensor, TokenStatistics, TokenTerms]:
        head = Head(weight_VD=weight_VD, bias_V=bias_V, shape=shape)
        gradients = HeadGradients(
            hidden_ND, head, wanted=[is_trained and needed for needed in ctx.needs_input_grad[:3]]
        )
        statistics: TokenStatistics | None = None
        terms: TokenTerms | None = None
        for logits_CV, start_CV, first in _chunks(hidden_ND, head, request):
            gradient_CV = gradients.place_for(logits_CV)
            for rows in row_slices(logits_CV):
                place = slice(first + rows.start, first + rows.stop)
                scored = _score(
                    logits_CV[rows],
                    labels_N[place],
                    None if start_CV is None else start_CV[rows],
                    request.objective.needs,
                )
                of_rows = (
                    _terms(request, scored.statistics, request.context.of(place))
                    if known_terms is None
                    else known_terms.of(place)
                )
                statistics = _written(scored.statistics, place, labels_N, into=statistics)
                terms = _written(of_rows, place, labels_N, into=terms)
                if gradient_CV is not None:
                    gradient_CV[rows] = _logit_gradient(
                        scored, labels_N[place], of_rows, head, request, request.context.of(place).share_N
                    )
            if gradient_CV is not None:
                gradients.add(slice(first, first + len(gradient_CV)), gradient_CV)
        ctx.gradients = gradients.finished() if gradients.are_wanted else None
        assert statistics is not None  # no tokens make one empty chunk
        assert terms is not None
        return terms.loss_N.sum() / request.num_loss_tokens, statistics, terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "the fused loss's gradient was already computed by an earlier backward; compute it again"
            )
        found, ctx.gradients = ctx.gradients, None
        scaled = (None if gradient is None else gradient.mul_(grad) for gradient in found)
        return (*scaled, None, None, None, None, None)


def _chunks(
    hidden_ND: Tensor, head: Head, request: LossRequest
) -> Iterator[tuple[Tensor, Tensor | None, int]]:
    """Yields the logits of the policy and, if requested, of the frozen start, chunk by chunk."""
    logits = partial(logit_chunks, chunk_tokens=request.chunk_tokens, on_gpu=GPU_LOSS)
    chunks = logits(hidden_ND, head)
    if request.start is None:
        return ((logits_CV, None, first) for logits_CV, first in chunks)
    start_chunks = logits(request.start.hidden_ND, request.start.head)
    return (
        (logits_CV, start_CV, first)
        for (logits_CV, first), (start_CV, _) in zip(chunks, start_chunks, strict=True)
    )


class _Scored(NamedTuple):
    """Some rows of a chunk after their forward and before their gradient."""

    statistics: TokenStatistics
    logits_CV: Tensor
    normaliser_C: Tensor
    start_CV: Tensor | None  # logits of the frozen start
    start_normaliser_C: Tensor | None


def _score(logits_CV: Tensor, labels_C: Tensor, start_CV: Tensor | None, needs: Needs) -> _Scored:
    found = softmax_statistics(logits_CV, labels_C, entropy_epsilon=needs.entropy_epsilon)
    start_normaliser_C = kl_C = None
    if start_CV is not None:
        start_normaliser_C = start_CV.logsumexp(-1)
        kl_C = kl_divergence(
            start_CV, logits_CV, reference_normaliser_C=start_normaliser_C, normaliser_C=found.normaliser_C
        )
    statistics = TokenStatistics(
        found.logprobs_C,
        found.entropy_C,
        top_entropy_N=None if needs.top_k is None else top_entropy(logits_CV, needs.top_k),
        kl_N=kl_C,
        max_entropy=math.log(logits_CV.shape[-1]),
        top_logprobs_N=found.top_logprobs_C,
    )
    return _Scored(statistics, logits_CV, found.normaliser_C, start_CV, start_normaliser_C)


def _logit_gradient(
    scored: _Scored,
    labels_C: Tensor,
    terms: TokenTerms,
    head: Head,
    request: LossRequest,
    share_C: Tensor | None,
) -> Tensor:
    """Returns ∂loss/∂(hidden states × weight + bias), (C, V), in the head's precision."""
    factor = head.shape.scale / request.num_loss_tokens
    kl_weight: float | Tensor = request.objective.needs.kl_weight * factor
    if share_C is not None:
        kl_weight = kl_weight * share_C[:, None]
    return logit_gradient(
        scored.logits_CV,
        labels_C,
        terms.weight_N * factor,
        normaliser_C=scored.normaliser_C,
        reference_CV=scored.start_CV,
        reference_normaliser_C=scored.start_normaliser_C,
        kl_weight=kl_weight,
        softcap=head.shape.softcap,
        dtype=head.weight_VD.dtype,
    )


def _written(part: Numbers, place: slice, labels_N: Tensor, *, into: Numbers | None) -> Numbers:
    """Writes the results of some rows to their place in `into`, and returns `into`.

    If `into` is None, it is allocated for all tokens. Joining parts at the end would scatter small tensors
    among a chunk's large temporaries: the C library could not reuse that memory, and a loss of 16,384 tokens
    grew to 18 GB instead of 0.4.
    """
    if into is None:
        empty: dict[str, Any] = {
            name: value.new_empty(len(labels_N))
            for name, value in part._asdict().items()
            if isinstance(value, Tensor)
        }
        into = part._replace(**empty)
    for whole, value in zip(into, part, strict=True):
        if isinstance(whole, Tensor) and isinstance(value, Tensor):
            whole[place] = value
    return into
