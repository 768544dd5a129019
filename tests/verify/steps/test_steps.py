"""The step check: what it reads, what it lets stand, what it catches."""

import random
import re

import pytest

from drsft.records import Outcome, StepReport
from drsft.verify.case import Case
from drsft.verify.kinds import judge_case
from drsft.verify.options import VerifyOptions
from drsft.verify.steps.check import check_steps

SOUND = [
    "Natalia sold 48/2 = 24 clips in May. Natalia sold 48+24 = 72 clips altogether.",
    "There are 3 large boxes x 12 eggs = 36 eggs.",
    "It costs $2.50 x 4 = $10.00 and 20% of $10 = $2.",
    "One third is 100/3 = 33.33 and the rest is 66.67.",
    "She runs 4 x 30 minutes = 2 hours and saves 8 x 25 cents = $2.",
    "Two of the boxes - 5 x 2 = 10 - stay.",
    "So 5 x 4 = 20 + 3 = 23 in all.",
    "He needs 1 1/2 / 1/2 = 3 pans; that is 350 000 / 10 = 35 000 grams.",
    "2(3 + 4) = 14 and (8 x 4) - 4 = 28.",
    "E + E - 5 = 37, so 2E = 42 and E = 21.",
    r"We have $3^2+4^2 = 9+16 = 25$, so $c = \sqrt{25} = 5$.",
    r"\begin{align*} (x+1)^2 &= x^2+2x+1 \\ &= x(x+2)+1 \end{align*}",
    r"If $2 + 2 = 5$ then everything follows, a contradiction.",
    r"$x^2 = 4$, so $x = 2$ or $x = -2$; $f(2) = 7$; $7 \equiv 1 \pmod 3$.",
    r"$180^\circ - 60^\circ = 120^\circ$ and $\frac13 \approx 0.33$ and $2\frac12 = 2.5$.",
]
BROKEN = [
    ("Then 43+46=91; 91-7=84.", "43+46=91"),
    ("24 x 36 = 72 hours.", "24 x 36 = 72 hours"),
    ("There are 3 boxes x 12 eggs = 38 eggs.", "3 boxes x 12 eggs = 38 eggs"),
    ("She has 48/2 = 25 clips.", "48/2 = 25 clips"),
    (r"So $3^2+4^2 = 9+15 = 25$.", "3^2+4^2 = 9+15"),
    (r"\[12 \cdot 12 = 145\]", r"12 \cdot 12 = 145"),
    ("With E = 21 we get 2E = 44.", "2E = 44"),
]


@pytest.mark.parametrize("text", SOUND)
def test_sound_steps_stand(text):
    assert check_steps(text).first_failure is None


@pytest.mark.parametrize(("text", "failure"), BROKEN)
def test_broken_steps_are_named(text, failure):
    report = check_steps(text)
    assert report.num_failed >= 1
    assert report.first_failure.rstrip(".") == failure


def test_the_report_counts_what_was_read():
    report = check_steps("2 + 2 = 4 and 3 + 3 = 7 and 4 + 4 = 8 and 5 + 5 = 11.")
    assert (report.num_read, report.num_failed, report.first_failure) == (4, 2, "3 + 3 = 7")


def test_a_text_without_equations_has_nothing_to_hold_against_it():
    report = check_steps("The answer follows by symmetry.")
    assert (report.num_read, report.num_failed, report.holds) == (0, 0, True)


def test_nearly_every_wrong_number_in_plain_arithmetic_is_caught():
    draw = random.Random(0)
    num_caught = 0
    for _ in range(300):
        a, b, c = (draw.randint(2, 90) for _ in range(3))
        text = f"She had {a} + {b} = {a + b} cups. She gave {c} x {b} = {c * b} away. So {a + b} - {a} = {b}."
        assert check_steps(text).holds
        numbers = list(re.finditer(r"\d+", text))
        hit = draw.choice(numbers)
        other = str(int(hit.group()) + draw.choice([1, 2, 3, 10]))
        corrupted = text[: hit.start()] + other + text[hit.end() :]
        num_caught += not check_steps(corrupted).holds
    assert num_caught >= 297


@pytest.mark.parametrize("text", ["x = N", "x = 1/N", "N + 1 = 2", "$x = N$"])
def test_numbers_of_thousands_of_digits_are_left_alone(text: str) -> None:
    assert check_steps(text.replace("N", "1" * 5000)).num_failed == 0


def test_reading_is_linear_in_the_text():
    for unit in ("1 + ", "$", "( ", r"\[", "2 = ", "a b c d e f ", "9 boxes of red "):
        check_steps(unit * 20_000)


@pytest.mark.parametrize(
    "text", [r"3 + 3 = 7 and 2 + 2 = 4, so \boxed{7}", r"3 + 4 = 7, so \boxed{7}", r"\boxed{7}"]
)
@pytest.mark.parametrize("kind", ["steps", "math+steps"])
def test_the_report_of_a_verdict_that_steps_decide_survives_storing(text: str, kind: str) -> None:
    verdict = judge_case(Case(kind=kind, question="", reference="7", text=text), VerifyOptions())
    assert StepReport.from_stored(verdict.reason, verdict.answer) == verdict.steps
    is_decided = (
        kind == "steps" or verdict.outcome is Outcome.WRONG or verdict.reason.endswith("equations fail")
    )
    assert verdict.steps == (check_steps(text) if is_decided else None)


def test_cents_may_become_dollars_and_other_hundredths_are_wrong():
    assert check_steps("The stamps cost 100 * 0.75 = $0.75.").num_failed == 0
    assert check_steps("The stamps cost $100 * 0.75 = $0.75.").num_failed == 1
    assert check_steps("The stamps cost 100 * 0.75 = 0.75.").num_failed == 1
