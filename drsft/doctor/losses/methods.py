"""Checks every objective against worked numbers in two ways: with full logits and autograd, and with the
fused loss that trains.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from drsft.doctor.losses.findings import Finding, error_between
from drsft.doctor.losses.fixtures import Case, Method
from drsft.objectives.document_means import median_document_loss
from drsft.objectives.head import Head
from drsft.objectives.loss import FrozenStart, LossRequest, fused_loss
from drsft.objectives.statistics import TokenStatistics, token_statistics
from drsft.objectives.weights import TokenContext, TokenTerms, token_terms

__all__ = ["method_findings", "statistics_findings"]

CHUNK_TOKENS = 2  # so that also a small case has several chunks


class _Result(NamedTuple):
    statistics: TokenStatistics
    terms: TokenTerms
    loss: Tensor
    gradient_NV: Tensor  # at the logits


def method_findings(case: Case, method: Method) -> Iterator[Finding]:
    """Computes an objective with full logits and with the fused loss, and yields the errors of both.

    Compared are the weights, per-token losses, loss and gradient that the case gives. Raises ValueError if
    the case lacks a value that the objective needs.
    """
    for way, compute in (("plain", _plain), ("fused", _fused)):
        try:
            result = compute(case, method)
        except ValueError as error:  # the case lacks what the objective needs
            raise ValueError(f"case {case.name!r}, method {method.name!r}: {error}") from None
        subject = method.name.split("@")[0]
        for quantity, off in _errors(case, method, result):
            yield Finding(block=case.name, subject=subject, quantity=f"{way} {quantity}", error=off)


def statistics_findings(case: Case) -> Iterator[Finding]:
    """Yields the errors of log p, entropy, φ = log p + entropy and φ's summary, if the case gives them."""
    statistics = token_statistics(case.logits_NV, _identity(case), case.labels_N, chunk_tokens=CHUNK_TOKENS)
    phi_N = statistics.phi_N
    found = {
        "token_logprobs": statistics.logprobs_N,
        "entropy_nats": statistics.entropy_N,
        "phi_cll": phi_N,
    }
    for name, values_N in found.items():
        expected_N = case.optional(name)
        if expected_N is not None:
            yield Finding(
                block=case.name,
                subject="statistics",
                quantity=name,
                error=error_between(values_N, expected_N),
            )
    summary = {"total": phi_N.sum(), "mean": phi_N.mean()}
    summary |= {f"frac_gt_m{limit}": (phi_N > -limit).double().mean() for limit in (1, 3, 5)}
    for name, expected in case.tree.get("phi_summary", {}).items():
        if name in summary:
            error = error_between(summary[name], torch.tensor(expected, dtype=torch.float64))
            yield Finding(block=case.name, subject="statistics", quantity=f"phi {name}", error=error)


def _errors(case: Case, method: Method, result: _Result) -> Iterator[tuple[str, float]]:
    expected, terms = method.expected, result.terms
    if "weight" in expected:
        # If a limit stops the gradient, the file gives the weight before it; the gradient shows the limit.
        is_stopped_N = terms.is_clipped_N & (terms.weight_N == 0)
        wanted_N = case.tokens(expected["weight"])
        yield "weight", error_between(terms.weight_N.where(~is_stopped_N, wanted_N), wanted_N)
    if "per_token_loss" in expected:
        yield "token loss", error_between(terms.loss_N, case.tokens(expected["per_token_loss"]))
    if "loss" in expected:
        yield "loss", error_between(result.loss, torch.tensor(expected["loss"], dtype=torch.float64))
    if "grad_logits" in expected:
        yield "gradient", error_between(result.gradient_NV, case.tokens(expected["grad_logits"]))
    extra = expected.get("extra") or {}
    if "kl_ref_policy" in extra and result.statistics.kl_N is not None:
        yield "token loss", error_between(result.statistics.kl_N, case.tokens(extra["kl_ref_policy"]))
    if "clipped" in extra:
        yield "weight", error_between(terms.is_clipped_N, case.tokens(extra["clipped"]))


def _context(case: Case, method: Method, logprobs_N: Tensor) -> TokenContext:
    return TokenContext(
        start_logprobs_N=case.optional("ref_logprobs"),
        old_logprobs_N=case.optional("old_logprobs"),
        document_ids_N=case.document_ids_N,
        median_loss=median_document_loss(logprobs_N, case.document_ids_N),
        progress=method.idft_share,
    )


def _plain(case: Case, method: Method) -> _Result:
    """Returns the loss and its gradients, computed with all logits in memory and differentiated by torch."""
    needs = method.objective.needs
    logits_NV = case.logits_NV.clone().requires_grad_()
    logp_NV = logits_NV.log_softmax(-1)
    logp_N = logp_NV.gather(-1, case.labels_N[:, None])[:, 0]
    p_NV = logp_NV.detach().exp()
    top_Nk = p_NV.sort(-1, descending=True).values[:, : needs.top_k]
    top_Nk = top_Nk / top_Nk.sum(-1, keepdim=True)
    start_NV = case.optional("ref_logits") if needs.start_model else None
    kl_N = None
    if start_NV is not None:
        start_logp_NV = start_NV.log_softmax(-1)
        kl_N = (start_logp_NV.exp() * (start_logp_NV - logp_NV)).sum(-1)
    statistics = TokenStatistics(
        logp_N.detach(),
        -(p_NV * (p_NV + needs.entropy_epsilon).log()).nan_to_num(0.0).sum(-1),
        top_entropy_N=torch.special.entr(top_Nk).sum(-1),
        kl_N=None if kl_N is None else kl_N.detach(),
        max_entropy=torch.tensor(float(logits_NV.shape[-1])).double().log().item(),
    )
    terms = token_terms(method.objective, statistics, _context(case, method, logp_N.detach()))
    surrogate = -(terms.weight_N * logp_N).sum()
    if kl_N is not None:
        surrogate = surrogate + needs.kl_weight * kl_N.sum()
    (gradient_NV,) = torch.autograd.grad(surrogate / len(logp_N), logits_NV)
    return _Result(statistics, terms, terms.loss_N.mean(), gradient_NV)


def _fused(case: Case, method: Method) -> _Result:
    """Returns the loss and its gradients, computed as in training. The head is an identity, so hidden states
    are logits.
    """
    head = _identity(case)
    logits_NV = case.logits_NV.clone().requires_grad_()
    scored = token_statistics(logits_NV, head, case.labels_N)
    start_NV = case.optional("ref_logits") if method.objective.needs.start_model else None
    request = LossRequest(
        num_loss_tokens=len(case.labels_N),
        objective=method.objective,
        context=_context(case, method, scored.logprobs_N),
        start=None if start_NV is None else FrozenStart(hidden_ND=start_NV, head=head),
        chunk_tokens=CHUNK_TOKENS,
    )
    fused = fused_loss(logits_NV, head, case.labels_N, request)
    (gradient_NV,) = torch.autograd.grad(fused.loss, logits_NV)
    return _Result(fused.statistics, fused.terms, fused.loss.detach(), gradient_NV)


def _identity(case: Case) -> Head:
    return Head(weight_VD=torch.eye(case.logits_NV.shape[-1], dtype=torch.float64))
