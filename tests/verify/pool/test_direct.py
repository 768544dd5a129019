"""What is decided without a process is what a worker would have found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.verify.case import Case
from drsft.verify.maths.judge import judge_math
from drsft.verify.options import VerifyOptions
from drsft.verify.pool.direct import direct_verdict

OPTIONS = VerifyOptions()


def case(reference: str, text: str, kind: str = "math") -> Case:
    return Case(kind=kind, reference=reference, text=text, question="")


numbers = st.one_of(st.integers(-(10**6), 10**6).map(str), st.floats(-1e4, 1e4).map(lambda x: f"{x:.3f}"))
wrappers = st.sampled_from(
    ["\\boxed{%s}", "so 3+4=7. The answer is %s.", "#### %s", "\\boxed{$%s$}", "%s apples", "%s"]
)


@given(reference=numbers, answer=numbers, wrapper=wrappers)
def test_a_decided_verdict_is_the_workers(reference: str, answer: str, wrapper: str) -> None:
    one = case(reference, wrapper % answer)
    verdict = direct_verdict(one, OPTIONS)
    assert verdict is None or verdict == judge_math(one, OPTIONS)


@given(reference=st.text(max_size=40), text=st.text(max_size=200))
def test_any_text_is_decided_alike_or_left_to_a_worker(reference: str, text: str) -> None:
    one = case(reference, text)
    verdict = direct_verdict(one, OPTIONS)
    assert verdict is None or verdict == judge_math(one, OPTIONS)


def test_plain_numbers_are_decided_here() -> None:
    assert direct_verdict(case("82", "43+46=89;89-7=82;\\boxed{82}"), OPTIONS) is not None
    assert direct_verdict(case("82", "\\boxed{83}"), OPTIONS) is not None


@pytest.mark.parametrize(
    "one",
    [
        case("\\frac12", "\\boxed{0.5}"),
        case("9^{9^{9^9}}", "\\boxed{9^{9^{9^9}}}"),
        case("1", "1" * 100_000),
        case("1", "\\boxed{1}", kind="code"),
        case("B", "\\boxed{2}"),
    ],
)
def test_everything_else_goes_to_a_worker(one: Case) -> None:
    assert direct_verdict(one, OPTIONS) is None
