"""Which calculations lead to an answer, against texts whose reading is plain to a person."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.records import Problem
from drsft.verify.pool import VerifierPool
from drsft.verify.steps.derivation import derives

DERIVED = [
    ("We know that $x = 5 + 4$ and we add them, the answer is 9.", "9"),
    ("To find the total, we multiply 9 by 3. This results in 27 shells.", "27"),
    ("Multiply 7 by 7, giving a total of 49 books.", "49"),
    (r"We have $x = 8 - 6$ and we have $\boxed{2}$ as the answer.", "2"),
    ("We use the equation $x = 15 + 9 - 3$ to find the number of items, which is 21.", "21"),
    (r"Let’s see: $x = 3 \cdot 5 - 3 = \boxed{12}$.", "12"),
    ("120 students / 2 = 60 couples\n\nSo the answer is \\boxed{60}.", "60"),
    ("Tony bought 3 tickets * 5 winning numbers per ticket = 15 numbers * $20 per number = $300.", "300"),
    ("600 ml / 150 ml/serving = 4 servings", "4"),
    ("In total there are 32 frogs + 16 frogs = 48 frogs.", "48"),
    (r"The mean is $\frac{10 + 20}{2} = 15$.", "15"),
    ("He earns 1,000 + 250 dollars, so $1,250.", "1250"),
    ("Subtract 3 from 10 to get 7.", "7"),
    ("18 divided by 3 is 6.", "6"),
    ("The sum of 4 apples and 5 pears is 9.", "9"),
]
COPIED = [
    ("The answer is 22.", "22"),
    ("The answer is $x = 7 \\cdot 9$", "63"),  # its value is not stated
    ("We multiply 3 by 3, which is 9. We add 1 to this, which is 16.", "16"),
    ("Sara has 11 apples, lost 7, and now has 12 apples.", "12"),
    ("To solve x + 7 = 16 we look at 16.", "16"),
    ("The answer is 24. A bag holds 24 sweets.", "24"),
    ("\\boxed{72}\n\nHe volunteers 24*3 times.", "72"),  # stated before its calculation alone
    ("Page 4-5, then 9.", "9"),
]


@pytest.mark.parametrize(("text", "answer"), DERIVED)
def test_a_calculation_that_gives_the_answer_is_found(text: str, answer: str) -> None:
    assert derives(text, answer) is True


@pytest.mark.parametrize(("text", "answer"), COPIED)
def test_an_answer_without_its_calculation_is_not_derived(text: str, answer: str) -> None:
    assert derives(text, answer) is False


@pytest.mark.parametrize("answer", ["", "B", "x + 1", "1/2", "\\infty", "12 m", "1e5"])
def test_of_other_answers_nothing_is_said(answer: str) -> None:
    assert derives("1 + 1 = 2", answer) is None


@given(
    first=st.integers(0, 999),
    second=st.integers(1, 999),
    sign=st.sampled_from("+-*/"),
    offset=st.integers(-3, 3),
)
def test_the_value_decides(first: int, second: int, sign: str, offset: int) -> None:
    value = {
        "+": Fraction(first + second),
        "-": Fraction(first - second),
        "*": Fraction(first * second),
        "/": Fraction(first, second),
    }[sign]
    if value.denominator != 1 or value < 0:
        return
    claimed = value + offset
    text = f"There are {first} {sign} {second} of them, so the total is {claimed}."
    assert derives(text, str(claimed)) is (offset == 0)


@given(st.text(alphabet="0123456789+-*/=()$\\{}., \nmultiply by andx", max_size=300), st.integers(0, 99))
def test_no_text_raises(text: str, answer: int) -> None:
    assert derives(text, str(answer)) in (True, False)


def test_reading_is_linear_in_the_text() -> None:
    for unit in ("1 + ", "1 apple + ", "( ", r"\frac{1}{2}", "9 times ", "add 3 ", "multiply 9 by 9 by "):
        derives(unit * 20_000, "7")
        derives("\n".join([unit] * 20_000), "7")


async def test_the_step_check_reports_it() -> None:
    problem = Problem(problem_id="p", question="", demonstration="", reference="9", kind="steps")
    with VerifierPool() as verifier:
        found = [await verifier.judge(problem, text) for text in (DERIVED[0][0], "It is 9.")]
    assert [one.steps and one.steps.derives_answer for one in found] == [True, False]
