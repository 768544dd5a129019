"""The mixing's numbers against a reading of the algorithm in plain Python, and the continuation's rules."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drsft.config import Constant, Linear, LoopGuard, Mixing, Piecewise, Schedule, Sigmoid
from drsft.doctor.losses.hinted_steps import hinted_step_errors
from drsft.errors import InputError
from drsft.policy.hinted.continuation import Continuation, loops, uniform
from drsft.policy.hinted.mixing import draw, mix, sampling_logprobs
from drsft.records import Sampling
from tests.support.hinted_oracle import drawn, entropy, log_softmax, mixed, sampling_distribution

SCHEDULES: list[Schedule] = [
    Linear(beta=0.0), Linear(beta=3.0), Linear(beta=40.0), Sigmoid(beta=10.0, centre=0.2),
    Piecewise(low=0.1, high=0.6), Constant(weight=0.25), Constant(weight=1.0),
]  # fmt: skip
rows = st.lists(st.floats(-12, 12), min_size=7, max_size=7)


def weight_by_hand(schedule: Schedule, h: float) -> float:
    match schedule:
        case Linear(beta=beta):
            return min(max(beta * h, 0), 1)
        case Sigmoid(beta=beta, centre=centre):
            return 1 / (1 + math.exp(-beta * (h - centre)))
        case Piecewise(low=low, high=high):
            return 0.0 if h <= low else 1.0 if h >= high else (h - low) / (high - low)
        case Constant(weight=weight):
            return weight


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.kind}")
@given(hinted=rows, plain=rows, top_p=st.floats(0.05, 1), temperature=st.sampled_from([0.3, 1.0, 2.0]))
def test_mixing_and_sampling_are_those_of_the_slow_reading(
    schedule: Schedule, hinted: list[float], plain: list[float], top_p: float, temperature: float
) -> None:
    mixture = mix(
        *(torch.tensor([row, row], dtype=torch.float64) for row in (hinted, plain)), schedule, vocab_size=9
    )
    h = entropy(log_softmax(hinted))
    weight = weight_by_hand(schedule, h / math.log(9))
    expected = mixed(hinted, plain, weight)
    assert mixture.entropy_B.tolist() == pytest.approx([h, h], abs=1e-12)
    assert mixture.weight_B.tolist() == pytest.approx([weight, weight], abs=1e-12)
    assert mixture.logprobs_BV[1].tolist() == pytest.approx(expected, abs=1e-11)
    cumulative = [math.fsum(sorted(map(math.exp, expected), reverse=True)[:n]) for n in range(1, 8)]
    if min(abs(mass - top_p) for mass in cumulative) < 1e-9:
        return  # on the edge of the nucleus rounding decides
    probs = sampling_distribution(mixture.logprobs_BV[0].tolist(), temperature, top_p, False)
    found = sampling_logprobs(mixture.logprobs_BV, temperature=temperature, top_p=top_p)
    assert found[0].exp().tolist() == pytest.approx(probs, abs=1e-11)


@given(hinted=rows, top_p=st.floats(0.05, 1))
def test_vllms_order_takes_the_nucleus_after_temperature(hinted: list[float], top_p: float) -> None:
    logprobs = log_softmax(hinted)
    expected = sampling_distribution(logprobs, 0.3, top_p, True)
    found = sampling_logprobs(
        torch.tensor([logprobs], dtype=torch.float64), temperature=0.3, top_p=top_p, temperature_first=True
    )
    if sum(p > 0 for p in expected) == int(found.isfinite().sum()):  # else on the nucleus's edge
        assert found[0].exp().tolist() == pytest.approx(expected, abs=1e-11)


def test_the_two_orders_differ_where_temperature_moves_the_nucleus() -> None:
    logprobs = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    demo, engine = (
        sampling_logprobs(logprobs, temperature=0.3, top_p=0.75, temperature_first=first).exp()[0].tolist()
        for first in (False, True)
    )
    powers = [p ** (1 / 0.3) for p in (0.5, 0.3)]
    assert demo == pytest.approx([powers[0] / sum(powers), powers[1] / sum(powers), 0])
    assert engine == [1, 0, 0]


def test_a_token_that_one_side_rules_out_stays_out_and_breaks_nothing() -> None:
    never = -math.inf
    hinted, plain = torch.tensor([[1.0, never, 0.0]]), torch.tensor([[never, 1.0, 0.0]])
    for schedule in (Linear(beta=0.0), Constant(weight=1.0), Constant(weight=0.5)):
        assert not mix(hinted, plain, schedule, vocab_size=3).logprobs_BV.isnan().any()
    alone = mix(hinted, plain, Constant(weight=0.5), vocab_size=3, forced_weight_B=torch.tensor([1.0]))
    assert alone.logprobs_BV.tolist()[0] == pytest.approx(log_softmax([never, 1.0, 0.0]))


def test_a_draw_inverts_the_distribution_and_never_takes_the_impossible() -> None:
    rng = random.Random(0)
    probs = [0.0, 0.2, 0.0, 0.5, 0.3, 0.0]
    numbers = [rng.random() for _ in range(4000)] + [0.0, 1 - 2**-52]
    rows_BV = torch.tensor([probs], dtype=torch.float64).log().expand(len(numbers), -1)
    tokens = draw(rows_BV, torch.tensor(numbers, dtype=torch.float64)).tolist()
    assert {1, 3, 4} == set(tokens)
    assert tokens[:4000].count(3) / 4000 == pytest.approx(0.5, abs=0.03)
    for position in range(200):
        one = torch.tensor([uniform(5, position)], dtype=torch.float64)
        assert draw(torch.tensor([probs], dtype=torch.float64).log(), one).item() == drawn(probs, 5, position)


def continuation(**changes: object) -> Continuation:
    mixing = Mixing(loop_guard=LoopGuard(every_tokens=10, ngram_tokens=3, repeats=3))
    sampling = Sampling(num_samples=1, temperature=1.0, max_tokens=100, seed=1)
    fields = {"max_tokens": 100, "stop_ids": frozenset({0}), "decode": spelled, **changes}
    return Continuation(mixing, sampling, **fields)  # type: ignore[arg-type]


def spelled(token_ids: Sequence[int]) -> str:
    return "".join(chr(i) for i in token_ids if i)


def grown(text: str, **changes: object) -> Continuation:
    one = continuation(**changes)
    for char in text:
        one.append(ord(char), -0.5)
    return one


def test_the_hinted_context_begins_the_schedule_goes_on_and_the_plain_one_ends() -> None:
    assert continuation().forced_weight() == 0
    assert math.isnan(grown("so \\boxed").forced_weight())
    answered = grown("so \\boxed{")
    assert answered.forced_weight() == 1
    answered.truncate(5)
    assert math.isnan(answered.forced_weight())
    answered.truncate(0)
    assert answered.forced_weight() == 0


def test_a_marker_that_spans_tokens_is_found_in_the_text() -> None:
    words = {1: "\\bo", 2: "xed", 3: "{4", 4: "x", 0: ""}
    one = continuation(decode=lambda ids: "".join(words[i] for i in ids))
    weights = []
    for token_id in (4, 1, 2, 3, 4):
        one.append(token_id, 0.0)
        weights.append(one.forced_weight())
    assert [math.isnan(w) for w in weights] == [True, True, True, False, False]


def test_it_stops_at_the_end_of_the_turn_at_the_limit_and_in_a_loop() -> None:
    stopped = grown("abc")
    stopped.append(0, -0.1)
    assert stopped.finish_reason == "stop"
    assert stopped.completion().token_ids == (97, 98, 99, 0)
    assert grown("abcd", max_tokens=4).finish_reason == "length"
    assert grown("abcabcabc").finish_reason is None, "looked at every ten tokens only"
    assert grown("abcabcabca").finish_reason == "loop"


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 4), st.integers(2, 4))
def test_loops_counts_ngrams(token_ids: list[int], n: int, repeats: int) -> None:
    grams = [tuple(token_ids[i : i + n]) for i in range(len(token_ids) - n + 1)]
    expected = any(grams.count(gram) >= repeats for gram in grams)
    assert loops(token_ids, ngram_tokens=n, repeats=repeats) == expected


def test_the_line_break_it_begins_with_goes_with_its_log_probs() -> None:
    one = grown("\n  ab")
    completion = one.completion()
    assert completion.token_ids == (97, 98)
    assert completion.text == "ab"
    assert completion.behaviour_logprobs_T == (-0.5, -0.5)


STEP = {
    "hinted_logits": [0.0, 0.0], "plain_logits": [0.0, 0.0], "beta": 0.5, "lambda_mode": "linear",
    "temperature": 1.0, "top_p": 1.0, "vocab_size_for_norm": 4, "lam": 0.25, "greedy": 0,
    "mix_probs_T1": [0.5, 0.5],
}  # fmt: skip


def test_a_fixture_step_is_checked_and_a_wrong_number_is_seen() -> None:
    assert max(hinted_step_errors(STEP).values()) < 1e-12
    assert hinted_step_errors({**STEP, "lam": 0.35})["lam"] == pytest.approx(0.1)
    assert hinted_step_errors({**STEP, "greedy": 1})["greedy"] == 1


ROWS = {  # hinted and plain logits
    "spread": ([0.3, -0.2, 1.1, 0.0, 0.9], [2.0, 0.0, -1.0, 0.5, 0.25]),
    "sure": ([40.0, 0.0, 0.0, 0.0, 1.0], [0.0, 3.0, 0.0, 0.0, 2.0]),
    "uniform": ([0.0] * 5, [0.0, 1.0, 2.0, 3.0, 4.0]),
    "ruled out": ([1.0, -math.inf, 0.5, 0.0, -math.inf], [0.0, 1.0, -math.inf, 2.0, -math.inf]),
    "one token": ([0.7], [0.1]),
}
MODES: list[tuple[dict[str, object], Schedule]] = [
    ({"lambda_mode": "linear", "beta": 0}, Linear(beta=0)),
    ({"lambda_mode": "linear", "beta": 0.7}, Linear(beta=0.7)),
    ({"lambda_mode": "linear", "beta": 1e6}, Linear(beta=1e6)),
    ({"beta": 3.0}, Linear(beta=3.0)),
    ({"lambda_mode": "sigmoid", "beta": 4.0, "sigmoid_center": 0.2}, Sigmoid(beta=4.0, centre=0.2)),
    ({"lambda_mode": "sigmoid", "beta": 10.0}, Sigmoid(beta=10.0, centre=0.5)),
    ({"lambda_mode": "piecewise", "piecewise_bounds": [0.1, 0.9]}, Piecewise(low=0.1, high=0.9)),
    ({"lambda_mode": "piecewise"}, Piecewise(low=0.3, high=0.7)),
    ({"lambda_mode": "constant", "weight": 1}, Constant(weight=1)),
]
DRAWS: list[dict[str, object]] = [
    {"temperature": 0.3, "top_p": 0.9}, {"temperature": 1, "top_p": 1, "top_k": 0}, {"top_p": 0},
    {"temperature": 0, "top_p": None, "top_k": None}, {},
]  # fmt: skip


@pytest.mark.parametrize("drawing", DRAWS, ids=str)
@pytest.mark.parametrize(("mode", "schedule"), MODES, ids=lambda one: str(one) if type(one) is dict else "")
@pytest.mark.parametrize("name", ROWS)
def test_a_step_at_the_edges_is_that_of_the_slow_reading(
    name: str, mode: dict[str, object], schedule: Schedule, drawing: dict[str, object]
) -> None:
    hinted, plain = ROWS[name]
    padded = max(len(hinted), 1)
    logprobs = log_softmax(hinted)
    h = entropy(logprobs) / math.log(padded) if padded > 1 else 0.0
    weight = weight_by_hand(schedule, h)
    expected = mixed(hinted, plain, weight)
    temperature, top_p = drawing.get("temperature", 1), drawing.get("top_p", 1)
    demo, engine = (
        sampling_distribution(expected, temperature, 1 if top_p is None else top_p, first)  # type: ignore[arg-type]
        for first in (False, True)
    )
    step = {
        "hinted_logits": hinted, "plain_logits": plain, **mode, **drawing, "vocab_size_for_norm": padded,
        "entropy_hinted": entropy(logprobs), "entropy_norm": h, "lam": weight,
        "mix_probs_T1": [math.exp(x) for x in expected], "greedy": expected.index(max(expected)),
        "sampling_probs_demo_order_topp_then_temperature": demo,
        "sampling_probs_engine_order_temperature_then_topp": engine,
    }  # fmt: skip
    assert max(hinted_step_errors(step).values()) < 1e-9
    if weight not in (0.0, 1.0):
        unnormalised = [
            (1 - weight) * p + weight * q for p, q in zip(logprobs, log_softmax(plain), strict=True)
        ]
        errors = hinted_step_errors({**step, "mix_log_unnormalised": unnormalised})
        assert errors["mix_log_unnormalised"] < 1e-9


def test_a_number_that_is_none_is_wrong_and_a_step_that_expects_nothing_is_refused() -> None:
    errors = hinted_step_errors({**STEP, "lam": math.nan})
    assert math.isnan(errors["lam"])
    nothing = {name: STEP[name] for name in ("hinted_logits", "plain_logits", "beta", "lambda_mode")}
    with pytest.raises(InputError, match="states no expected value"):
        hinted_step_errors(nothing)


@pytest.mark.parametrize(
    "change",
    [
        {"lambda_mode": "cubic"},
        {"hinted_logits": "x"},
        {"lam": [0.1, 0.2]},
        {"top_k": 1, "sampling_probs_demo_order_topp_then_temperature": [0.5, 0.5]},
    ],
)
def test_a_step_that_is_none_is_one_line(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="hinted_decoding_steps"):
        hinted_step_errors({**STEP, "name": "odd", **change})
