"""The rules that warn of a training, each on metrics that break it."""

import pytest

from drsft.objectives.warning_rules import RULES, WINDOW, troubles

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


@pytest.mark.parametrize("metric", BROKEN)
def test_each_trouble_is_told_with_its_numbers_and_its_cure(metric: str) -> None:
    history = [HEALTHY] * WINDOW + [{**HEALTHY, metric: BROKEN[metric]}] * WINDOW
    (text,) = troubles(history).values()
    assert f"{metric} was {HEALTHY[metric]:.3g}, is {BROKEN[metric]:.3g}" in text
    assert troubles(history[: 2 * WINDOW - 1]) == {}, "not before two windows"


def test_every_rule_is_tried() -> None:
    assert {rule.metric for rule in RULES} == set(BROKEN) == set(HEALTHY)


def test_an_older_history_without_a_metric_is_read() -> None:
    assert troubles([{"ce": 1.0}] * 100) == {}
