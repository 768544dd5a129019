"""Meters, and the metrics that are made of them, computed by hand."""

import math

import pytest
import torch

from drsft.config.objectives import Dft, Objective, Sft
from drsft.objectives.loss import FusedLoss
from drsft.objectives.meters import metrics_of, token_sums
from drsft.objectives.statistics import TokenStatistics
from drsft.objectives.weights import TokenContext, shared_terms, token_terms

PROBABILITIES = [0.5, 0.05, 0.97]


def sums_of(probabilities: list[float], objective: Objective) -> torch.Tensor:
    logprobs_N = torch.tensor(probabilities, dtype=torch.float64).log()
    statistics = TokenStatistics(logprobs_N, torch.full_like(logprobs_N, 0.3))
    terms = token_terms(objective, statistics, TokenContext())
    is_last_N = torch.arange(len(probabilities)) == len(probabilities) - 1
    return token_sums(FusedLoss(terms.loss_N.sum(), statistics, terms), is_last_N=is_last_N)


def test_meters_add_up_over_micro_batches() -> None:
    parts = [sums_of(PROBABILITIES[:1], Dft()), sums_of(PROBABILITIES[1:], Dft())]
    metrics = metrics_of(torch.stack(parts).sum(0))
    assert metrics["loss"] == pytest.approx(0.1753019, abs=1e-7)
    assert metrics["ce"] == pytest.approx(1.2397796, abs=1e-7)
    assert metrics["mean_p"] == pytest.approx(1.52 / 3)
    assert metrics["phi"] == pytest.approx(0.3 - 1.2397796, abs=1e-7)
    assert metrics["effective_sample_size"] == pytest.approx(1.52**2 / (3 * (0.25 + 0.0025 + 0.9409)))
    assert metrics["end_of_turn_p"] == pytest.approx((0.5 + 0.97) / 2)
    assert metrics["loss_tokens"] == 3


def test_the_share_of_unlikely_tokens_in_the_gradient() -> None:
    sft, dft = (metrics_of(sums_of(PROBABILITIES, one))["low_p_gradient_share"] for one in (Sft(), Dft()))
    assert sft == pytest.approx(0.95 / (0.5 + 0.95 + 0.03))
    assert dft == pytest.approx(0.05 * 0.95 / (0.25 + 0.05 * 0.95 + 0.97 * 0.03))


def test_sft_uses_its_whole_sample() -> None:
    assert metrics_of(sums_of(PROBABILITIES, Sft()))["effective_sample_size"] == pytest.approx(1)


def part_metrics(thought: list[bool]) -> dict[str, float]:
    logprobs_N = torch.tensor(PROBABILITIES, dtype=torch.float64).log()
    statistics = TokenStatistics(logprobs_N, torch.full_like(logprobs_N, 0.3))
    terms = token_terms(Dft(), statistics, TokenContext())
    fused = FusedLoss(terms.loss_N.sum(), statistics, terms)
    sums = token_sums(fused, is_last_N=torch.arange(3) == 2, is_thought_N=torch.tensor(thought))
    return metrics_of(sums)


def test_thoughts_and_answers_have_a_cross_entropy_of_their_own() -> None:
    metrics, losses = part_metrics([True, True, False]), [-math.log(p) for p in PROBABILITIES]
    assert (metrics["thought_tokens"], metrics["answer_tokens"]) == (2, 1)
    assert metrics["thought_ce"] == pytest.approx((losses[0] + losses[1]) / 2)
    assert metrics["answer_ce"] == pytest.approx(losses[2])


def test_a_step_without_thoughts_has_no_more_metrics_and_one_without_answers_no_mean_of_them() -> None:
    without = part_metrics([False] * 3)
    assert without == metrics_of(sums_of(PROBABILITIES, Dft()))
    assert not {"thought_ce", "thought_tokens", "answer_ce", "answer_tokens"} & without.keys()
    only = part_metrics([True] * 3)
    assert only["thought_ce"] == pytest.approx(only["ce"])
    assert only["answer_tokens"] == 0
    assert "answer_ce" not in only


def test_the_loss_is_a_mean_by_share_and_every_other_mean_counts_tokens_once() -> None:
    logprobs_N = torch.tensor(PROBABILITIES, dtype=torch.float64).log()
    statistics = TokenStatistics(logprobs_N, torch.full_like(logprobs_N, 0.3))
    share_N = torch.tensor([0.5, 1.0, 1.0], dtype=torch.float64)
    terms = shared_terms(token_terms(Sft(), statistics, TokenContext()), share_N)
    fused = FusedLoss(terms.loss_N.sum(), statistics, terms)
    metrics = metrics_of(token_sums(fused, is_last_N=torch.arange(3) == 2, share_N=share_N))
    losses = [-math.log(p) for p in PROBABILITIES]
    assert metrics["loss"] == pytest.approx((0.5 * losses[0] + losses[1] + losses[2]) / 2.5)
    assert metrics["ce"] == pytest.approx(sum(losses) / 3)
    assert metrics["loss_tokens"] == 3
