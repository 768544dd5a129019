"""Meters computed by hand, and the rules that read them."""

import pytest
import torch

from drsft.config.objectives import Dft, Objective, Sft
from drsft.objectives.health import RULES, WINDOW, troubles
from drsft.objectives.loss import FusedLoss
from drsft.objectives.meters import metrics_of, token_sums
from drsft.objectives.statistics import TokenStatistics
from drsft.objectives.weights import TokenContext, token_terms

PROBABILITIES = [0.5, 0.05, 0.97]


def sums_of(probabilities: list[float], objective: Objective) -> torch.Tensor:
    logprobs_T = torch.tensor(probabilities, dtype=torch.float64).log()
    statistics = TokenStatistics(logprobs_T, torch.full_like(logprobs_T, 0.3))
    terms = token_terms(objective, statistics, TokenContext())
    is_last_T = torch.arange(len(probabilities)) == len(probabilities) - 1
    return token_sums(FusedLoss(terms.loss_T.sum(), statistics, terms), is_last_T=is_last_T)


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


HEALTHY = {
    "effective_sample_size": 0.6,
    "mean_weight": 0.7,
    "entropy": 0.5,
    "mean_p": 0.7,
    "end_of_turn_p": 0.9,
    "low_p_gradient_share": 0.3,
    "clip_share": 0.1,
    "grad_norm": 1.0,
}
BROKEN = {
    "effective_sample_size": 0.01,
    "mean_weight": 0.001,
    "entropy": 0.1,
    "mean_p": 0.5,
    "end_of_turn_p": 0.2,
    "low_p_gradient_share": 0.9,
    "clip_share": 0.7,
    "grad_norm": 30.0,
}


def test_a_healthy_run_gives_no_warning() -> None:
    assert troubles([HEALTHY] * 100) == {}


@pytest.mark.parametrize("meter", BROKEN)
def test_each_trouble_is_told_with_its_numbers_and_its_cure(meter: str) -> None:
    history = [HEALTHY] * WINDOW + [{**HEALTHY, meter: BROKEN[meter]}] * WINDOW
    (text,) = troubles(history).values()
    assert f"{meter} was {HEALTHY[meter]:.3g}, is {BROKEN[meter]:.3g}" in text
    assert troubles(history[: 2 * WINDOW - 1]) == {}, "not before two windows"


def test_every_rule_is_tried() -> None:
    assert {rule.meter for rule in RULES} == set(BROKEN) == set(HEALTHY)


def test_an_older_history_without_a_meter_is_read() -> None:
    assert troubles([{"ce": 1.0}] * 100) == {}
