"""Estimators against closed forms, brute force over all subsets, and simulation."""

import itertools
import math

import numpy as np
import pytest

from drsft.evaluate.estimators import avg_at_k, clustered_mean, maj_at_k, pass_at_k
from drsft.evaluate.intervals import t_quantile
from drsft.evaluate.paired import paired_difference


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (100, 1.98397), (1000, 1.96234)],
)
def test_t_quantile_agrees_with_the_printed_tables(freedom: int, expected: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-5)


def test_t_quantile_is_smooth_where_its_two_formulas_meet() -> None:
    assert t_quantile(0.975, 199.999) == pytest.approx(t_quantile(0.975, 200.0), abs=1e-5)


def test_avg_at_k_clusters_by_problem() -> None:
    # Problem means 1, 0, 1/2, 1/2: standard deviation sqrt(1/6), over sqrt(4).
    estimate = avg_at_k([[1, 1], [0, 0], [1, 0], [0, 1]])
    assert estimate.value == 0.5
    assert estimate.standard_error == pytest.approx(math.sqrt(1 / 6) / 2)
    margin = t_quantile(0.975, 3) * estimate.standard_error / 0.25
    assert estimate.low == pytest.approx(1 / (1 + math.exp(margin)))
    assert estimate.high == pytest.approx(1 - estimate.low)


def test_repeating_the_samples_of_a_problem_adds_no_evidence() -> None:
    outcomes = np.random.default_rng(0).integers(2, size=(30, 1))
    once, often = avg_at_k(outcomes), avg_at_k(np.repeat(outcomes, 16, axis=1))
    assert (once.low, once.high) == (often.low, often.high)


def test_an_interval_keeps_its_width_when_nothing_was_correct() -> None:
    estimate = avg_at_k(np.zeros((100, 4)))
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(1.96**2 / (100 + 1.96**2), rel=1e-3)
    alike = avg_at_k([[1, 0, 0]] * 50)  # every problem at 1/3, up to rounding
    assert alike.high - alike.low > 0.2
    assert avg_at_k([[1, 0, 1]]).low == 0.0  # one problem says nothing of others
    assert avg_at_k([[1, 0, 1]]).high == 1.0


def test_three_equal_trainings_are_no_better_than_one() -> None:
    outcomes = np.random.default_rng(1).integers(2, size=(40, 4))
    one, three = avg_at_k(outcomes), avg_at_k(np.stack([outcomes] * 3))
    assert three.standard_error == pytest.approx(one.standard_error)
    assert three.seed_values == pytest.approx((one.value,) * 3)


def test_disagreeing_trainings_widen_the_interval() -> None:
    # Seeds at 0.2, 0.5 and 0.8 with problems all alike: the standard error is that of three numbers.
    rng = np.random.default_rng(2)
    outcomes = rng.random((3, 20_000, 1)) < np.array([0.2, 0.5, 0.8])[:, None, None]
    estimate = avg_at_k(outcomes)
    assert estimate.standard_error == pytest.approx(0.3 / math.sqrt(3), rel=0.05)
    assert estimate.high - estimate.low > 0.75  # two degrees of freedom


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_equals_brute_force_over_all_subsets(k: int) -> None:
    outcomes = np.random.default_rng(k).integers(2, size=(12, 5))
    subsets = list(itertools.combinations(range(5), k))
    brute = np.mean([[max(row[i] for i in subset) for subset in subsets] for row in outcomes])
    assert pass_at_k(outcomes, k).value == pytest.approx(float(brute))


def test_pass_at_1_is_avg_at_k() -> None:
    outcomes = np.random.default_rng(3).integers(2, size=(2, 9, 6))
    one, average = pass_at_k(outcomes, 1), avg_at_k(outcomes)
    assert (one.value, one.low, one.high) == pytest.approx((average.value, average.low, average.high))


def test_maj_at_k_equals_brute_force_over_all_ways_to_break_a_tie() -> None:
    groups = np.random.default_rng(7).integers(-1, 4, size=(2, 40, 5))
    groups[0, 0] = -1  # nobody votes
    wins = []
    for row in groups.reshape(-1, 5):
        votes = [int(group) for group in row if group >= 0]
        first = [group for group in set(votes) if votes.count(group) == max(map(votes.count, votes))]
        wins.append(float(np.mean([group == 0 for group in first])) if first else 0.0)
    assert maj_at_k(groups).value == pytest.approx(float(np.mean(wins)))
    assert 0 < np.mean(wins) < 1
    assert maj_at_k([[0, 0, 1], [1, 2, 0], [1, 1, 0]]).value == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_maj_at_1_is_accuracy_where_all_vote() -> None:
    groups = np.random.default_rng(8).integers(0, 3, size=(50, 1))
    majority, average = maj_at_k(groups), avg_at_k(groups == 0)
    assert (majority.value, majority.low, majority.high) == (average.value, average.low, average.high)


@pytest.mark.parametrize("bad", [[0, 1], [[0.5, 1.0]], np.zeros((3, 0), dtype=int)])
def test_groups_of_another_kind_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="groups"):
        maj_at_k(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [[0, 1], [[0.5, 1.0]], np.zeros((3, 0)), [[float("nan")]]])
def test_outcomes_of_another_kind_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="outcomes"):
        avg_at_k(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass@4"):
        pass_at_k([[0, 1, 1]], 4)


def _draw(
    rng: np.random.Generator, *, seeds: int, problems: int, samples: int, seed_spread: float
) -> np.ndarray:
    logits_SP = rng.normal(0, 1.5, (1, problems)) + rng.normal(0, seed_spread, (seeds, 1))
    return rng.random((seeds, problems, samples)) < 1 / (1 + np.exp(-logits_SP))[..., None]


@pytest.mark.parametrize(("problems", "samples"), [(30, 16), (60, 4), (300, 8)])
def test_the_interval_of_one_model_covers_the_truth(problems: int, samples: int) -> None:
    """The logits are symmetric about 0, so the population's accuracy is exactly one half."""
    rng = np.random.default_rng(4)
    runs = 10_000
    covered = 0
    for _ in range(runs):
        estimate = avg_at_k(_draw(rng, seeds=1, problems=problems, samples=samples, seed_spread=0.0))
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.94 <= covered / runs <= 0.96


@pytest.mark.parametrize(("seeds", "seed_spread"), [(3, 0.0), (3, 0.2)])
def test_intervals_over_trainings_cover_the_truth(seeds: int, seed_spread: float) -> None:
    rng = np.random.default_rng(4)
    runs = 1200
    covered = 0
    for _ in range(runs):
        estimate = avg_at_k(_draw(rng, seeds=seeds, problems=60, samples=4, seed_spread=seed_spread))
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.935 <= covered / runs <= 0.972  # 95 %, and three of the simulation's own standard errors


def test_paired_intervals_cover_the_truth_in_simulation() -> None:
    """Two models of equal ability, each with three trainings."""
    rng = np.random.default_rng(5)
    covered, runs = 0, 300
    for run in range(runs):
        difficulty_P = rng.normal(0, 1.5, (1, 60))
        pair = []
        for _ in range(2):
            chance_SP = 1 / (1 + np.exp(-difficulty_P - rng.normal(0, 0.2, (3, 1))))
            pair.append(rng.random((3, 60, 4)) < chance_SP[..., None])
        difference = paired_difference(pair[0], pair[1], seed=run, num_resamples=1000)
        covered += difference.low <= 0 <= difference.high
    assert 0.92 <= covered / runs <= 0.995


def test_paired_difference_is_sharper_than_the_two_intervals() -> None:
    rng = np.random.default_rng(6)
    first = rng.random((200, 8)) < np.linspace(0, 1, 200)[:, None]
    second = first.copy()
    second[:30, 0] = ~second[:30, 0]
    difference = paired_difference(second, first)
    assert difference.high - difference.low < avg_at_k(first).high - avg_at_k(first).low
    assert difference.value == pytest.approx(second.mean() - first.mean())


def test_paired_difference_counts_the_problems_that_flipped() -> None:
    first, second = [[1, 1], [1, 1], [0, 0], [0, 1]], [[0, 0], [1, 1], [1, 1], [0, 1]]
    difference = paired_difference(first, second)
    assert (difference.num_gained, difference.num_lost, difference.num_flipped) == (1, 1, 2)
    assert not difference.is_clear
    assert paired_difference(first, second) == difference  # seeded


def test_paired_difference_needs_the_same_problems() -> None:
    with pytest.raises(ValueError, match="4 and 3 problems"):
        paired_difference(np.zeros((4, 2)), np.zeros((3, 2)))


def test_clustered_mean_is_students_interval() -> None:
    mean = clustered_mean([1.0, 2.0, 3.0])
    assert (mean.value, mean.standard_error) == (2.0, pytest.approx(1 / math.sqrt(3)))
    assert mean.high - mean.value == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    assert mean.share_positive == 1.0
