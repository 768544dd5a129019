"""Sums per-token numbers beside the loss, over micro-batches and workers, and turns them into metrics."""

import torch
from torch import Tensor

from drsft.objectives.loss import FusedLoss

__all__ = ["LOW_P", "metrics_of", "token_sums"]

LOW_P = 0.1  # the model would hardly have written a token below this probability


def token_sums(
    fused: FusedLoss,
    *,
    is_last_N: Tensor,
    is_thought_N: Tensor | None = None,
    share_N: Tensor | None = None,
) -> Tensor:
    """Returns sixteen sums over the N loss tokens in float64, from which `metrics_of` computes the metrics.

    `is_last_N` marks the last token of each completion, which ends the turn, and `is_thought_N` the tokens of
    thoughts. `share_N` (0 to 1) says how much of each token's loss counts, as in TokenContext; None: all of
    it. The sums of micro-batches and workers can be added.
    """
    statistics, terms = fused.statistics, fused.terms
    ce_N = -statistics.logprobs_N.double()
    p_N, weight_N = ce_N.neg().exp(), terms.weight_N.double()
    # ‖∂loss/∂logits‖₁ of a token is w · ‖softmax − onehot‖₁ = 2 w (1 − p).
    gradient_N = weight_N.abs() * (1 - p_N)
    is_thought_N = torch.zeros_like(ce_N) if is_thought_N is None else is_thought_N
    kl_N = torch.zeros_like(ce_N) if statistics.kl_N is None else statistics.kl_N
    columns = (
        torch.ones_like(ce_N),
        terms.loss_N,
        ce_N,
        p_N,
        statistics.entropy_N,
        weight_N,
        weight_N.square(),
        terms.is_clipped_N,
        gradient_N,
        gradient_N * (p_N < LOW_P),
        is_last_N,
        p_N * is_last_N,
        kl_N,
        torch.ones_like(ce_N) if share_N is None else share_N,
        is_thought_N,
        ce_N * is_thought_N,
    )
    return torch.stack([column.double() for column in columns]).sum(-1)


def metrics_of(sums: Tensor) -> dict[str, float]:
    """Returns means per loss token from the step's `token_sums`.

    `loss` is what was minimised, over the sum of the tokens' shares; all other means count each token once.
    For DFT `loss` is non-monotone in p and at most 1/e, so compare arms by `ce`. `effective_sample_size` is
    (Σw)² / (N Σw²): the share of tokens that the weights leave in effect, 1 for SFT. `low_p_gradient_share`
    is the share of the gradient, by its L1 norm at the logits, from tokens with p < 0.1; `clip_share` that of
    tokens whose weight a limit decided; `end_of_turn_p` the mean p of the completions' last tokens. Where
    thoughts are learnt, `thought_ce` and `answer_ce` are each part's `ce`.
    """
    (
        tokens,
        loss,
        ce,
        p,
        entropy,
        weight,
        squared_weight,
        clipped,
        gradient,
        low_p_gradient,
        ends,
        end_p,
        kl,
        share,
        thoughts,
        thought_ce,
    ) = sums.tolist()
    return {
        "loss": loss / share,
        "ce": ce / tokens,
        "mean_p": p / tokens,
        "entropy": entropy / tokens,
        "phi": (entropy - ce) / tokens,
        "mean_weight": weight / tokens,
        "effective_sample_size": weight**2 / (tokens * squared_weight) if squared_weight else 0.0,
        "low_p_gradient_share": low_p_gradient / gradient if gradient else 0.0,
        "clip_share": clipped / tokens,
        "end_of_turn_p": end_p / ends if ends else 0.0,
        "kl": kl / tokens,
        "loss_tokens": tokens,
        **_part_metrics(thoughts=(thoughts, thought_ce), answers=(tokens - thoughts, ce - thought_ce)),
    }


def _part_metrics(*, thoughts: tuple[float, float], answers: tuple[float, float]) -> dict[str, float]:
    """Returns the metrics of each part from its tokens and cross-entropy; nothing without thoughts."""
    (num_thought, thought_ce), (num_answer, answer_ce) = thoughts, answers
    if not num_thought:
        return {}
    metrics = {
        "thought_tokens": num_thought,
        "answer_tokens": num_answer,
        "thought_ce": thought_ce / num_thought,
    }
    return metrics | {"answer_ce": answer_ce / num_answer} if num_answer else metrics
