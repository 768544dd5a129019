"""Rates come from the engines' counters over the last seconds, and there is none before the first token."""

import random

import pytest

from drsft.stages.progress_rates import WINDOW_S, TokenMeter, TrainingClock, time_left_s


def test_there_is_no_rate_before_the_first_token() -> None:
    meter = TokenMeter()
    for second in range(240):
        assert meter.tokens_per_s(now_s=second) is None
        meter.read("a", 0, 16, now_s=second)
    assert meter.num_in_flight == 16
    assert meter.mean_tokens_per_s() is None


@pytest.mark.parametrize("seed", range(20))
def test_the_rate_is_within_a_factor_of_the_real_one(seed: int) -> None:
    draws, meter, rates = random.Random(seed), TokenMeter(), (100.0, 40.0)
    told = dict.fromkeys("ab", 0.0)
    for tick in range(1, 200):
        now_s = tick + draws.uniform(0, 0.3)
        for name, rate in zip("ab", rates, strict=True):
            meter.read(name, rate * now_s - told[name], 1, now_s=now_s)
            told[name] = rate * now_s
        shown = meter.tokens_per_s(now_s=now_s)
        assert shown is None or 70 <= shown <= 280
    assert meter.num_tokens == pytest.approx(140 * now_s)
    assert meter.mean_tokens_per_s() == pytest.approx(140, rel=0.02)


def test_there_is_no_rate_while_no_tokens_come() -> None:
    meter = TokenMeter()
    meter.read("a", 100, 3, now_s=0)
    meter.read("b", 50, 2, now_s=2)
    assert meter.num_in_flight == 5
    meter.forget("a")
    assert meter.num_in_flight == 2
    meter.read("b", 0, 0, now_s=3 + WINDOW_S)
    assert meter.tokens_per_s(now_s=3 + WINDOW_S) is None
    assert meter.num_tokens == 150


def test_time_left_counts_what_is_in_flight() -> None:
    known = {"num_done": 4, "num_left": 12, "tokens_of_done": 400, "tokens_per_s": 10.0}
    assert time_left_s(tokens_sampled=400, **known) == 120
    assert time_left_s(tokens_sampled=1000, **known) == 60
    assert time_left_s(tokens_sampled=5000, **known) is None
    assert time_left_s(tokens_sampled=400, **{**known, "num_done": 0}) is None
    assert time_left_s(tokens_sampled=400, **{**known, "tokens_per_s": None}) is None


LOADING_S, EXPORTING_S, NUM_STEPS = 40.0, 15.0, 50
STEP_S = {"sft": 2.0, "dr+dft": 3.5}


def trained(num_seeds: int, *, from_step: int = 0) -> list[tuple[float, str, float | None]]:
    """When each step ended, its arm, and the time left that the clock then gave."""
    jobs = [arm for _ in range(num_seeds) for arm in STEP_S]
    clock, now_s, told = TrainingClock([(arm, NUM_STEPS) for arm in jobs]), 0.0, []
    for number, arm in enumerate(jobs):
        clock.begin(now_s=now_s)
        now_s += LOADING_S
        for step in range(from_step if number == 0 else 0, NUM_STEPS):
            now_s += STEP_S[arm]
            clock.step(step + 1, now_s=now_s)
            told.append((now_s, arm, clock.left_s(now_s=now_s)))
        now_s += EXPORTING_S
        clock.end(now_s=now_s)
        told.append((now_s, arm, clock.left_s(now_s=now_s)))
    return told


@pytest.mark.parametrize("from_step", [0, 30])
def test_the_time_left_of_trainings_is_right_at_each_step_once_each_arm_has_shown_its_pace(
    from_step: int,
) -> None:
    """Loading, compiling and exporting count once a training, and no arm by another one's pace."""
    told = trained(3, from_step=from_step)
    end_s = told[-1][0]
    known = [(now_s, left_s) for now_s, arm, left_s in told if arm == "dr+dft" or now_s > end_s / 2]
    for now_s, left_s in known[2:]:
        assert left_s == pytest.approx(end_s - now_s, rel=0.1, abs=1e-6)
    in_the_second_round = [left_s for now_s, left_s in known if now_s > end_s / 2 and left_s is not None]
    assert in_the_second_round == sorted(in_the_second_round, reverse=True), "it never jumps back"


def test_trainings_have_no_time_left_before_a_second_step_and_no_first_step_counts_as_pace() -> None:
    told = trained(1)
    assert told[0][2] is None
    left_s = told[1][2]
    others_s = LOADING_S + NUM_STEPS * STEP_S["sft"]  # as far as one arm tells
    assert left_s == pytest.approx(48 * STEP_S["sft"] + others_s, rel=0.05)
