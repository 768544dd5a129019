"""The study of the intervals' coverage: its truth, its seed, and what it finds of the intervals."""

import numpy as np
import pytest

from tests.studies.coverage import DESIGNS, PROBLEMS_SPREAD, Design, expected_accuracy, measure_coverage


def test_the_truth_is_the_mean_of_what_is_drawn() -> None:
    design = Design(num_problems=60, num_samples=4, num_seeds=3, seeds_spread=0.4)
    assert expected_accuracy(design, 0.0) == pytest.approx(0.5, abs=1e-12)
    rng = np.random.default_rng(0)
    logits = 0.9 + rng.normal(0, PROBLEMS_SPREAD, 400_000) + rng.normal(0, 0.4, 400_000)
    drawn = float((1 / (1 + np.exp(-logits))).mean())
    assert expected_accuracy(design, 0.9) == pytest.approx(drawn, abs=0.002)


@pytest.mark.parametrize("design", [DESIGNS[1], DESIGNS[6]], ids=["one training", "three trainings"])
def test_intervals_of_the_tables_cover_the_truth(design: Design) -> None:
    found = measure_coverage(design, num_runs=2000)
    assert 0.935 <= found.covered <= 0.975
    assert found == measure_coverage(design, num_runs=2000)


def test_a_paired_interval_is_about_the_difference() -> None:
    design = Design(num_problems=40, num_samples=4, gain=1.0)
    found = measure_coverage(design, num_runs=150)
    assert found.truth == pytest.approx(expected_accuracy(design, 1.0) - 0.5)
    assert found.covered > 0.85
