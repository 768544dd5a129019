"""Computes every objective as a pure function of per-token numbers. Nothing here carries a gradient.

Axes: N loss tokens, M completions ("documents") that they belong to.

An objective's loss on a token, as a function of log p, has the gradient of plain cross-entropy times a
factor: its weight w = −∂loss/∂log p. Most objectives *are* that weight (reweighted cross-entropy, loss w ·
−log p with w held constant); psft, p_power and luffy have a loss of their own and the weight that follows
from it. At the logits the gradient is w (softmax − onehot), plus kl_weight (softmax − softmax_start) for asft
and sft_kl.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, assert_never

import torch
from torch import Tensor

from drsft.config import objectives
from drsft.config.objectives import Guards, Objective
from drsft.objectives.document_means import document_totals, median_document_loss, spread
from drsft.objectives.statistics import TokenStatistics

__all__ = ["TokenContext", "TokenTerms", "guarded_terms", "shared_terms", "token_terms", "token_weights"]

N = TypeVar("N")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenContext:
    """The inputs of an objective besides token statistics; the objective's `needs` says which it requires."""

    start_logprobs_N: Tensor | None = None  # of the frozen starting model
    old_logprobs_N: Tensor | None = None  # of the policy when the snapshot was taken
    document_ids_N: Tensor | None = None  # 0, 1, … M − 1, ascending
    is_exempt_N: Tensor | None = None  # tokens that the guards leave at weight 1
    share_N: Tensor | None = None  # 0 to 1: how much of a token's loss counts; None: all of it
    median_loss: float | None = None  # over the step's documents, of their mean −log p
    progress: float = 1.0  # share of the steps that are done

    @classmethod
    def at_start(cls, statistics: TokenStatistics, document_ids_N: Tensor) -> "TokenContext":
        """Returns the context before training, when the policy equals both frozen start and snapshot."""
        logprobs_N = statistics.logprobs_N
        return cls(
            start_logprobs_N=logprobs_N,
            old_logprobs_N=logprobs_N,
            document_ids_N=document_ids_N,
            median_loss=median_document_loss(logprobs_N, document_ids_N),
        )

    def of(self, chunk: slice) -> "TokenContext":
        """Returns the context of a slice of the tokens."""
        names = ("start_logprobs_N", "old_logprobs_N", "document_ids_N", "is_exempt_N", "share_N")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: t[chunk] for name, t in tensors.items() if t is not None})


class TokenTerms(NamedTuple):
    loss_N: Tensor  # the loss's value, nats; with the KL term
    weight_N: Tensor  # −∂loss/∂log p
    is_clipped_N: Tensor  # where a limit, not the formula, decided the weight

    def of(self, chunk: slice) -> "TokenTerms":
        return TokenTerms(self.loss_N[chunk], self.weight_N[chunk], self.is_clipped_N[chunk])


def token_weights(objective: Objective, statistics: TokenStatistics, context: TokenContext) -> Tensor:
    """Returns the weight of each token under `objective`, without guards."""
    return token_terms(objective, statistics, context).weight_N


def token_terms(objective: Objective, statistics: TokenStatistics, context: TokenContext) -> TokenTerms:
    """Returns each token's loss and weight under `objective`, and whether a limit decided the weight.

    This is the only function that distinguishes the kinds of objectives. Raises ValueError if the statistics
    or the context lack what the objective needs.
    """
    logp_N, entropy_N = statistics.logprobs_N, statistics.entropy_N
    p_N = logp_N.exp()
    match objective:
        case objectives.Sft():
            return reweighted(logp_N, torch.ones_like(logp_N))
        case objectives.Dft():
            # Without holding p constant the gradient would be (1 + log p) ∇p, which changes sign at 1/e.
            return reweighted(logp_N, p_N)
        case objectives.DftSeq():
            ids_N = _needed(context.document_ids_N, "document ids")
            return reweighted(logp_N, document_totals(logp_N, ids_N)[ids_N].exp())
        case objectives.DftGeomean():
            return reweighted(logp_N, spread(logp_N, _needed(context.document_ids_N, "document ids")).exp())
        case objectives.IwSft(temperature=temperature, max_weight=high):
            log_ratio_N = logp_N - _needed(context.start_logprobs_N, "the start's log-probs")
            mean_N = spread(log_ratio_N, _needed(context.document_ids_N, "document ids"))
            return limited(logp_N, (temperature * mean_N).exp(), low=0.0, high=high)
        case objectives.IwSftToken(min_weight=low, max_weight=high):
            ratio_N = (logp_N - _needed(context.start_logprobs_N, "the start's log-probs")).exp()
            return limited(logp_N, ratio_N, low=low, high=high)
        case objectives.Idft():
            return idft(objective, statistics, progress=context.progress)
        case objectives.IdftPhiClip(max_phi=limit):
            phi_N = statistics.phi_N
            gamma_N = (-phi_N.clamp(-limit, limit)).exp()
            return reweighted(logp_N, (gamma_N * logp_N).exp(), is_clipped_N=phi_N.abs() > limit)
        case objectives.Eaft(norm=norm, alpha=alpha):
            top_N = _needed(statistics.top_entropy_N, "the entropy of the likeliest tokens")
            return reweighted(logp_N, (top_N / norm) ** alpha)
        case objectives.EaftFull():
            return reweighted(
                logp_N, entropy_N / _needed(statistics.max_entropy, "the size of the vocabulary")
            )
        case objectives.Talr(min_weight=low):
            tau = _needed(context.median_loss, "the median loss")
            return limited(logp_N, (logp_N / tau).exp(), low=low, high=1.0)
        case objectives.Asft(kl_weight=kl_weight):
            return with_kl(reweighted(logp_N, p_N), statistics.kl_N, kl_weight)
        case objectives.SftKl(kl_weight=kl_weight):
            return with_kl(reweighted(logp_N, torch.ones_like(logp_N)), statistics.kl_N, kl_weight)
        case objectives.Psft(clip_low=low, clip_high=high):
            ratio_N = (logp_N - _needed(context.old_logprobs_N, "the snapshot's log-probs")).exp()
            return clipped_ratio(ratio_N, low=low, high=high)
        case objectives.ChordPhi():
            return reweighted(logp_N, p_N * (1 - p_N))
        case objectives.PPower(alpha=alpha):
            power_N = (alpha * logp_N).exp()
            return TokenTerms((1 - power_N) / alpha, power_N, _nowhere(logp_N))
        case objectives.Luffy(gamma=gamma, advantage=advantage):
            weight_N = advantage * gamma * p_N / (p_N + gamma) ** 2
            return TokenTerms(-advantage * p_N / (p_N + gamma), weight_N, _nowhere(logp_N))
        case objectives.Srft(scale=scale, entropy_power=power):
            return reweighted(logp_N, scale * (power * entropy_N).exp())
        case _:
            assert_never(objective)


def reweighted(logp_N: Tensor, weight_N: Tensor, *, is_clipped_N: Tensor | None = None) -> TokenTerms:
    """Returns loss, weight and clip mark of each token for the loss −w log p, where w is held constant.

    No token is marked as clipped unless `is_clipped_N` says so.
    """
    is_clipped_N = _nowhere(logp_N) if is_clipped_N is None else is_clipped_N
    return TokenTerms(-weight_N * logp_N, weight_N, is_clipped_N)


def limited(logp_N: Tensor, weight_N: Tensor, *, low: float, high: float) -> TokenTerms:
    """Returns loss, weight and clip mark of each token for the loss −w log p, with w limited to low … high.

    With low 0.2 and high 1.8 the weights 0.1, 1, 3 become 0.2, 1, 1.8. Tokens whose weight was changed are
    marked as clipped.
    """
    limited_N = weight_N.clamp(low, high)
    return reweighted(logp_N, limited_N, is_clipped_N=(weight_N < low) | (weight_N > high))


def idft(objective: objectives.Idft, statistics: TokenStatistics, *, progress: float) -> TokenTerms:
    """Returns loss, weight and clip mark of each token for IDFT: the weight is p^γ with γ = 1 + λ
    (clip(exp(−φ/β)) − 1).

    The weight approaches SFT's where the token is likelier than a typical one, and p² where it is much less
    likely. Below `min_p` the loss is constant. λ is 0 during the warm-up, then grows to 1; with the published
    ratios of 0 it is 1 throughout.
    """
    since_warmup, transition = progress - objective.warmup_ratio, objective.transition_ratio
    share = float(since_warmup >= 0) if transition == 0 else min(max(since_warmup / transition, 0.0), 1.0)
    raw_N = (-statistics.phi_N / objective.beta).exp()
    gamma_N = 1 + share * (raw_N.clamp(objective.gamma_min, objective.gamma_max) - 1)
    min_logp = torch.tensor(objective.min_p, dtype=torch.float64).log().item()
    logp_N = statistics.logprobs_N.clamp(min=min_logp)
    weight_N = (gamma_N * logp_N).exp()
    is_dead_N = statistics.logprobs_N < min_logp
    is_clipped_N = is_dead_N | (raw_N < objective.gamma_min) | (raw_N > objective.gamma_max)
    return TokenTerms(-weight_N * logp_N, weight_N.masked_fill(is_dead_N, 0.0), is_clipped_N)


def clipped_ratio(ratio_N: Tensor, *, low: float, high: float) -> TokenTerms:
    """Returns PPO's surrogate with every advantage 1: −min(r, clip(r, 1 − low, 1 + high)).

    Its gradient is r's until r exceeds 1 + high, then 0. The lower limit never binds, as r < 1 − low is the
    smaller value.
    """
    loss_N = -torch.minimum(ratio_N, ratio_N.clamp(1 - low, 1 + high))
    is_clipped_N = ratio_N > 1 + high
    return TokenTerms(loss_N, ratio_N.masked_fill(is_clipped_N, 0.0), is_clipped_N)


def with_kl(terms: TokenTerms, kl_N: Tensor | None, kl_weight: float) -> TokenTerms:
    """Returns `terms` with `kl_weight` · `kl_N` added to the loss.

    The weight is unchanged, as KL's gradient does not go through the label's log p.
    """
    return terms._replace(loss_N=terms.loss_N + kl_weight * _needed(kl_N, "the KL to the frozen start"))


def guarded_terms(
    terms: TokenTerms, logp_N: Tensor, guards: Guards, is_exempt_N: Tensor | None
) -> TokenTerms:
    """Returns `terms` with weights of at least `guards.min_weight`, and of exactly 1 for exempt tokens.

    Each changed weight counts as clipped, and changes the loss by the difference times −log p.
    """
    weight_N = terms.weight_N.clamp(min=guards.min_weight) if guards.min_weight else terms.weight_N
    if is_exempt_N is not None:
        weight_N = weight_N.masked_fill(is_exempt_N, 1.0)
    added_N = weight_N - terms.weight_N
    return TokenTerms(terms.loss_N - added_N * logp_N, weight_N, terms.is_clipped_N | (added_N != 0))


def shared_terms(terms: TokenTerms, share_N: Tensor | None) -> TokenTerms:
    """Returns `terms` with each token's loss and weight multiplied by `share_N`, unless that is None."""
    if share_N is None:
        return terms
    return terms._replace(loss_N=terms.loss_N * share_N, weight_N=terms.weight_N * share_N)


def _nowhere(logp_N: Tensor) -> Tensor:
    return torch.zeros_like(logp_N, dtype=torch.bool)


def _needed(value: N | None, what: str) -> N:
    if value is None:
        raise ValueError(f"this objective needs {what}, but got None")
    return value
