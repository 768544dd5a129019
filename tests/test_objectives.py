"""Weights and loss against hand-computed cases and a slow oracle that differentiates full logits."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from drsft.config import Dft, Objective, Sft
from drsft.objectives.loss import metrics_of, token_sums, weighted_nll
from drsft.objectives.statistics import TokenStatistics, token_statistics
from drsft.objectives.weights import token_weights

PROBABILITIES = [0.5, 0.05, 0.97]
OBJECTIVES: list[tuple[Objective, Callable[[float], float]]] = [(Sft(), lambda p: 1.0), (Dft(), lambda p: p)]


def statistics_of(probabilities: list[float]) -> TokenStatistics:
    logprobs_T = torch.tensor(probabilities, dtype=torch.float64).log().requires_grad_()
    return TokenStatistics(logprobs_T, torch.full_like(logprobs_T, 0.3).detach())


def oracle_gradient(logits_TV: Tensor, labels_T: Tensor, weight_of: Callable[[float], float]) -> Tensor:
    """w (softmax − onehot) / N, written out element by element."""
    gradient_TV = torch.zeros_like(logits_TV)
    for t, label in enumerate(labels_T.tolist()):
        exps = [math.exp(z) for z in logits_TV[t].tolist()]
        probabilities = [value / sum(exps) for value in exps]
        weight = weight_of(probabilities[label])
        for v, p in enumerate(probabilities):
            gradient_TV[t, v] = weight * (p - (v == label)) / len(labels_T)
    return gradient_TV


@pytest.mark.parametrize(("objective", "weight_of"), OBJECTIVES)
def test_weight_is_the_objectives_function_of_p_and_carries_no_gradient(
    objective: Objective, weight_of: Callable[[float], float]
) -> None:
    weight_T = token_weights(objective, statistics_of(PROBABILITIES))
    assert weight_T.tolist() == pytest.approx([weight_of(p) for p in PROBABILITIES], rel=1e-12)
    assert not weight_T.requires_grad


@pytest.mark.parametrize(("objective", "expected"), [(Sft(), 1.2397796), (Dft(), 0.1753019)])
def test_loss_of_three_tokens_computed_by_hand(objective: Objective, expected: float) -> None:
    statistics = statistics_of(PROBABILITIES)
    loss = weighted_nll(statistics, token_weights(objective, statistics), num_loss_tokens=3)
    assert loss.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("objective", "weight_of"), OBJECTIVES)
def test_gradient_at_the_logits_equals_the_slow_oracle(
    objective: Objective, weight_of: Callable[[float], float]
) -> None:
    logits_TV = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits_TV.requires_grad_()
    labels_T = torch.tensor([0, 8, 3, 3, 7, 1])
    # An identity head makes the hidden states the logits.
    statistics = token_statistics(logits_TV, torch.eye(9, dtype=torch.float64), labels_T, chunk_tokens=4)
    weighted_nll(statistics, token_weights(objective, statistics), num_loss_tokens=6).backward()
    assert logits_TV.grad is not None
    expected = oracle_gradient(logits_TV.detach(), labels_T, weight_of)
    torch.testing.assert_close(logits_TV.grad, expected, rtol=0, atol=1e-12)


def test_dividing_by_the_global_count_makes_micro_batches_add_up() -> None:
    statistics = statistics_of(PROBABILITIES)
    whole = weighted_nll(statistics, token_weights(Dft(), statistics), num_loss_tokens=3)
    parts = [statistics_of(PROBABILITIES[:1]), statistics_of(PROBABILITIES[1:])]
    summed = sum(weighted_nll(part, token_weights(Dft(), part), num_loss_tokens=3).item() for part in parts)
    assert summed == pytest.approx(whole.item(), rel=1e-12)


def test_metrics_add_up_over_micro_batches() -> None:
    parts = [statistics_of(PROBABILITIES[:1]), statistics_of(PROBABILITIES[1:])]
    sums = torch.stack([token_sums(part, token_weights(Dft(), part)) for part in parts]).sum(0)
    metrics = metrics_of(sums)
    assert metrics["loss"] == pytest.approx(0.1753019, abs=1e-7)
    assert metrics["ce"] == pytest.approx(1.2397796, abs=1e-7)
    assert metrics["mean_p"] == pytest.approx(1.52 / 3)
    assert metrics["phi"] == pytest.approx(0.3 - 1.2397796, abs=1e-7)
    assert metrics["effective_sample_size"] == pytest.approx(1.52**2 / (3 * (0.25 + 0.0025 + 0.9409)))
    assert metrics["loss_tokens"] == 3


def test_sft_uses_its_whole_sample() -> None:
    statistics = statistics_of(PROBABILITIES)
    assert metrics_of(token_sums(statistics, token_weights(Sft(), statistics)))["effective_sample_size"] == 1


def test_a_weight_with_a_gradient_is_refused() -> None:
    statistics = statistics_of(PROBABILITIES)
    with pytest.raises(ValueError, match="detach"):
        weighted_nll(statistics, statistics.logprobs_T.exp(), num_loss_tokens=3)
