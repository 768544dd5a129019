"""Every objective as a pure function of per-token numbers. Nothing here carries a gradient.

Axes: T loss tokens, M completions ("documents") that they belong to.

An objective's loss on a token, as a function of log p, has the gradient of plain cross-entropy times a
factor: its weight w_t = −∂loss/∂log p. Most objectives *are* that weight (reweighted cross-entropy, loss
w · −log p with w held constant); psft, p_power and luffy have a loss of their own and the weight that follows
from it. At the logits the gradient is w_t (softmax − onehot), plus kl_weight (softmax − softmax_start) for
asft and sft_kl.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, assert_never

import torch
from torch import Tensor

from drsft.config import objectives
from drsft.config.objectives import Guards, Objective
from drsft.objectives.documents import document_totals, median_document_loss, spread
from drsft.objectives.statistics import TokenStatistics

__all__ = ["TokenContext", "TokenTerms", "guarded_terms", "token_terms", "token_weights"]

N = TypeVar("N")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenContext:
    """What an objective may need beside the statistics; its `needs` say which."""

    start_logprobs_T: Tensor | None = None  # of the frozen starting model
    old_logprobs_T: Tensor | None = None  # of the policy when the snapshot was taken
    document_ids_T: Tensor | None = None  # 0, 1, … M − 1, ascending
    is_exempt_T: Tensor | None = None  # tokens that the guards leave at weight 1
    median_loss: float | None = None  # over the step's documents, of their mean −log p
    progress: float = 1.0  # share of the steps that are done

    @classmethod
    def at_start(cls, statistics: TokenStatistics, document_ids_T: Tensor) -> "TokenContext":
        """The context of untrained weights: the policy is its own start and its own snapshot."""
        logprobs_T = statistics.logprobs_T
        return cls(
            start_logprobs_T=logprobs_T,
            old_logprobs_T=logprobs_T,
            document_ids_T=document_ids_T,
            median_loss=median_document_loss(logprobs_T, document_ids_T),
        )

    def of(self, chunk: slice) -> "TokenContext":
        """The context of some of the tokens."""
        names = ("start_logprobs_T", "old_logprobs_T", "document_ids_T", "is_exempt_T")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: t[chunk] for name, t in tensors.items() if t is not None})


class TokenTerms(NamedTuple):
    loss_T: Tensor  # the loss's value, nats; with the KL term
    weight_T: Tensor  # −∂loss/∂log p
    is_clipped_T: Tensor  # where a limit, not the formula, decided the weight

    def of(self, chunk: slice) -> "TokenTerms":
        return TokenTerms(self.loss_T[chunk], self.weight_T[chunk], self.is_clipped_T[chunk])


def token_weights(objective: Objective, statistics: TokenStatistics, context: TokenContext) -> Tensor:
    """The weight of each token under `objective`, without guards."""
    return token_terms(objective, statistics, context).weight_T


def token_terms(objective: Objective, statistics: TokenStatistics, context: TokenContext) -> TokenTerms:
    """The one place that reads the union. ValueError where the context lacks what the objective needs."""
    logp_T, entropy_T = statistics.logprobs_T, statistics.entropy_T
    p_T = logp_T.exp()
    match objective:
        case objectives.Sft():
            return reweighted(logp_T, torch.ones_like(logp_T))
        case objectives.Dft():
            # Without holding p constant the gradient would be (1 + log p) ∇p, which changes sign at 1/e.
            return reweighted(logp_T, p_T)
        case objectives.DftSeq():
            ids_T = _needed(context.document_ids_T, "document ids")
            return reweighted(logp_T, document_totals(logp_T, ids_T)[ids_T].exp())
        case objectives.DftGeomean():
            return reweighted(logp_T, spread(logp_T, _needed(context.document_ids_T, "document ids")).exp())
        case objectives.IwSft(temperature=temperature, max_weight=high):
            log_ratio_T = logp_T - _needed(context.start_logprobs_T, "the start's log-probs")
            mean_T = spread(log_ratio_T, _needed(context.document_ids_T, "document ids"))
            return limited(logp_T, (temperature * mean_T).exp(), low=0.0, high=high)
        case objectives.IwSftToken(min_weight=low, max_weight=high):
            ratio_T = (logp_T - _needed(context.start_logprobs_T, "the start's log-probs")).exp()
            return limited(logp_T, ratio_T, low=low, high=high)
        case objectives.Idft():
            return idft(objective, statistics, progress=context.progress)
        case objectives.IdftPhiClip(max_phi=limit):
            phi_T = statistics.phi_T
            gamma_T = (-phi_T.clamp(-limit, limit)).exp()
            return reweighted(logp_T, (gamma_T * logp_T).exp(), is_clipped_T=phi_T.abs() > limit)
        case objectives.Eaft(norm=norm, alpha=alpha):
            top_T = _needed(statistics.top_entropy_T, "the entropy of the likeliest tokens")
            return reweighted(logp_T, (top_T / norm) ** alpha)
        case objectives.EaftFull():
            return reweighted(
                logp_T, entropy_T / _needed(statistics.max_entropy, "the size of the vocabulary")
            )
        case objectives.Talr(min_weight=low):
            tau = _needed(context.median_loss, "the median loss")
            return limited(logp_T, (logp_T / tau).exp(), low=low, high=1.0)
        case objectives.Asft(kl_weight=kl_weight):
            return with_kl(reweighted(logp_T, p_T), statistics.kl_T, kl_weight)
        case objectives.SftKl(kl_weight=kl_weight):
            return with_kl(reweighted(logp_T, torch.ones_like(logp_T)), statistics.kl_T, kl_weight)
        case objectives.Psft(clip_low=low, clip_high=high):
            ratio_T = (logp_T - _needed(context.old_logprobs_T, "the snapshot's log-probs")).exp()
            return clipped_ratio(ratio_T, low=low, high=high)
        case objectives.ChordPhi():
            return reweighted(logp_T, p_T * (1 - p_T))
        case objectives.PPower(alpha=alpha):
            power_T = (alpha * logp_T).exp()
            return TokenTerms((1 - power_T) / alpha, power_T, _nowhere(logp_T))
        case objectives.Luffy(gamma=gamma, advantage=advantage):
            weight_T = advantage * gamma * p_T / (p_T + gamma) ** 2
            return TokenTerms(-advantage * p_T / (p_T + gamma), weight_T, _nowhere(logp_T))
        case objectives.Srft(scale=scale, entropy_power=power):
            return reweighted(logp_T, scale * (power * entropy_T).exp())
        case _:
            assert_never(objective)


def reweighted(logp_T: Tensor, weight_T: Tensor, *, is_clipped_T: Tensor | None = None) -> TokenTerms:
    """Cross-entropy times a constant."""
    is_clipped_T = _nowhere(logp_T) if is_clipped_T is None else is_clipped_T
    return TokenTerms(-weight_T * logp_T, weight_T, is_clipped_T)


def limited(logp_T: Tensor, weight_T: Tensor, *, low: float, high: float) -> TokenTerms:
    """Cross-entropy times a weight within limits.  [.1, 1, 3] within .2 and 1.8 -> [.2, 1, 1.8]"""
    limited_T = weight_T.clamp(low, high)
    return reweighted(logp_T, limited_T, is_clipped_T=(weight_T < low) | (weight_T > high))


def idft(objective: objectives.Idft, statistics: TokenStatistics, *, progress: float) -> TokenTerms:
    """p^γ with γ = 1 + λ (clip(exp(−φ/β)) − 1): towards SFT where the token is likelier than a typical one,
    a square where it is much less likely. Below `min_p` the loss is constant.

    λ is 0 during the warm-up, then grows to 1; with the published ratios of 0 it is 1 throughout.
    """
    since_warmup, transition = progress - objective.warmup_ratio, objective.transition_ratio
    share = float(since_warmup >= 0) if transition == 0 else min(max(since_warmup / transition, 0.0), 1.0)
    raw_T = (-statistics.phi_T / objective.beta).exp()
    gamma_T = 1 + share * (raw_T.clamp(objective.gamma_min, objective.gamma_max) - 1)
    min_logp = torch.tensor(objective.min_p, dtype=torch.float64).log().item()
    logp_T = statistics.logprobs_T.clamp(min=min_logp)
    weight_T = (gamma_T * logp_T).exp()
    is_dead_T = statistics.logprobs_T < min_logp
    is_clipped_T = is_dead_T | (raw_T < objective.gamma_min) | (raw_T > objective.gamma_max)
    return TokenTerms(-weight_T * logp_T, weight_T.masked_fill(is_dead_T, 0.0), is_clipped_T)


def clipped_ratio(ratio_T: Tensor, *, low: float, high: float) -> TokenTerms:
    """−min(r, clip(r, 1 − low, 1 + high)), whose gradient is r's until r is past 1 + high, then nothing.

    PPO's surrogate with every advantage 1: the lower limit never binds, as r < 1 − low is the smaller.
    """
    loss_T = -torch.minimum(ratio_T, ratio_T.clamp(1 - low, 1 + high))
    is_clipped_T = ratio_T > 1 + high
    return TokenTerms(loss_T, ratio_T.masked_fill(is_clipped_T, 0.0), is_clipped_T)


def with_kl(terms: TokenTerms, kl_T: Tensor | None, kl_weight: float) -> TokenTerms:
    """The weight stays: KL's gradient does not go through the label's log p."""
    return terms._replace(loss_T=terms.loss_T + kl_weight * _needed(kl_T, "the KL to the frozen start"))


def guarded_terms(
    terms: TokenTerms, logp_T: Tensor, guards: Guards, is_exempt_T: Tensor | None
) -> TokenTerms:
    """Raises weights to their floor, and those of exempt tokens to 1; what is added is cross-entropy."""
    weight_T = terms.weight_T.clamp(min=guards.min_weight) if guards.min_weight else terms.weight_T
    if is_exempt_T is not None:
        weight_T = weight_T.masked_fill(is_exempt_T, 1.0)
    added_T = weight_T - terms.weight_T
    return TokenTerms(terms.loss_T - added_T * logp_T, weight_T, terms.is_clipped_T | (added_T != 0))


def _nowhere(logp_T: Tensor) -> Tensor:
    return torch.zeros_like(logp_T, dtype=torch.bool)


def _needed(value: N | None, what: str) -> N:
    if value is None:
        raise ValueError(f"this objective needs {what}")
    return value
