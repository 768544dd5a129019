"""Rates come from the engines' counters over the last seconds, and there is none before the first token."""

import random

import pytest

from drsft.stages.progress_rates import WINDOW_S, TokenMeter, time_left_s


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


def test_a_rate_falls_to_nothing_when_no_tokens_come() -> None:
    meter = TokenMeter()
    meter.read("a", 100, 3, now_s=0)
    meter.read("b", 50, 2, now_s=2)
    assert meter.num_in_flight == 5
    meter.forget("a")
    assert meter.num_in_flight == 2
    meter.read("b", 0, 0, now_s=3 + WINDOW_S)
    assert meter.tokens_per_s(now_s=3 + WINDOW_S) == 0
    assert meter.num_tokens == 150


def test_time_left_counts_what_is_in_flight() -> None:
    known = {"num_done": 4, "num_left": 12, "tokens_of_done": 400, "tokens_per_s": 10.0}
    assert time_left_s(tokens_sampled=400, **known) == 120
    assert time_left_s(tokens_sampled=1000, **known) == 60
    assert time_left_s(tokens_sampled=5000, **known) is None
    assert time_left_s(tokens_sampled=400, **{**known, "num_done": 0}) is None
    assert time_left_s(tokens_sampled=400, **{**known, "tokens_per_s": None}) is None
