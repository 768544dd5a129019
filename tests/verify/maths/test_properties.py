"""What must hold for every text and every answer, whatever it is."""

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.records import Outcome, StepReport, Verdict
from drsft.verify.case import Case
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.reference_answer import reference_answer
from drsft.verify.kinds import judge_case
from drsft.verify.maths.judge import judge_math
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.same import same_math
from drsft.verify.options import VerifyOptions
from drsft.verify.pool.messages import Reply, decode_case, decode_reply, encode_case, encode_reply
from drsft.verify.steps.check import check_steps

ANY_TEXT = st.text(st.characters(), max_size=200)  # surrogates and NUL included
COMMANDS = [
    r"\frac",
    r"\sqrt",
    r"\boxed",
    r"\text",
    r"\left(",
    r"\right)",
    r"\pm",
    r"\cup",
    r"\in",
    r"\infty",
]
BRACKETS = ["{", "}", "(", ")", "[", "]", r"\{", r"\}", r"\(", r"\)", r"\[", r"\]", "$", "|", "&", "\\\\"]
MATRIX = [r"\begin{pmatrix}", r"\end{pmatrix}"]
REST = [*"^_,;=<>+-*/!%12xynei", "10", "0.5", "and", "or", "answer", "is", "####", "3,4"]
PIECES = st.sampled_from(COMMANDS + BRACKETS + MATRIX + REST)
LATEX_LIKE = st.lists(PIECES, max_size=25).map(" ".join)
NUMBERS = st.fractions(min_value=-1000, max_value=1000, max_denominator=60)


@st.composite
def answers(draw: st.DrawFn) -> str:
    """Well-formed answers: numbers, roots, polynomials, tuples, sets, intervals."""
    first, second = draw(NUMBERS), draw(NUMBERS)
    shapes = [
        "{a}",
        r"{a}+\sqrt{{{n}}}",
        "{a}x+({b})",
        "x^2+({a})",
        "({a},{b})",
        r"\{{{a},{b}\}}",
        r"[{a},\infty)",
    ]
    parts = {"a": _latex(first), "b": _latex(second), "n": draw(st.integers(2, 50))}
    return draw(st.sampled_from(shapes)).format(**parts)


def _latex(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


@given(ANY_TEXT | LATEX_LIKE, ANY_TEXT | LATEX_LIKE)
@settings(max_examples=150, deadline=None)
def test_judging_never_raises_on_any_text(reference, text):
    verdict = judge_math(Case(kind="math", question="", reference=reference, text=text), VerifyOptions())
    assert isinstance(verdict, Verdict)


@given(ANY_TEXT | LATEX_LIKE)
@settings(max_examples=150, deadline=None)
def test_finding_cleaning_and_step_checking_never_raise(text):
    find_answer(text)
    clean(text)
    assert check_steps(text).num_failed <= check_steps(text).num_read


@given(answers(), answers())
@settings(max_examples=80, deadline=None)
def test_equality_is_symmetric(first, second):
    assert same_math(first, second)[0] == same_math(second, first)[0]


@given(answers())
@settings(max_examples=80, deadline=None)
def test_every_answer_equals_itself_however_it_is_typed(answer):
    variants = [
        f"${answer}$",
        f" {answer} ",
        rf"\({answer}\)",
        answer.replace(r"\frac", r"\dfrac"),
        answer.replace("(", r"\left(").replace(")", r"\right)") if "[" not in answer else answer,
        answer.replace("+", " + ").replace(",", ", "),
        rf"{answer}.",
    ]
    for variant in variants:
        assert same_math(answer, variant)[0] is Outcome.CORRECT, variant


@given(st.integers(0, 10**12), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_leading_zeros_and_grouping_do_not_matter(value, num_zeros):
    assert same_math(str(value), "0" * num_zeros + str(value))[0] is Outcome.CORRECT
    assert same_math(str(value), f"{value:,}")[0] is Outcome.CORRECT


@given(NUMBERS, NUMBERS)
@settings(max_examples=80, deadline=None)
def test_numbers_are_equal_exactly_when_they_are(first, second):
    outcome, _ = same_math(_latex(first), _latex(second))
    assert (outcome is Outcome.CORRECT) == (first == second)


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_changed_coefficient_is_another_polynomial(a, b, change):
    original = f"(x + ({a}))(x + ({b}))"
    expanded = f"x^2 + ({a + b})x + ({a * b})"
    changed = f"x^2 + ({a + b})x + ({a * b + change})"
    assert same_math(original, expanded)[0] is Outcome.CORRECT
    assert same_math(original, changed)[0] is Outcome.WRONG


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_every_case_and_reply_survives_its_message(question, reference, text):
    case = Case(kind="math", question=question, reference=reference, text=text)
    assert decode_case(encode_case(case)) == case
    steps = StepReport(num_read=3, num_failed=1, first_failure=text)
    for verdict in (
        Verdict(outcome=Outcome.WRONG, reason=reference, answer=text),
        Verdict(outcome=Outcome.WRONG, reason=reference, answer=text, steps=steps),
    ):
        for is_worker_spent in (False, True):
            reply = Reply(verdict=verdict, is_worker_spent=is_worker_spent)
            assert decode_reply(encode_reply(reply)) == reply
    assert decode_reply(encode_reply(None)) is None


QUANTITIES = st.builds(
    lambda value, unit: (value, unit),
    st.decimals(min_value=1, max_value=999, places=2),
    st.sampled_from([("km", "m", 1000), ("hours", "minutes", 60), ("kg", "g", 1000), ("L", "mL", 1000)]),
)
CLOSINGS = ["So the answer is {answer}.", "Therefore, the answer is ${answer}$."]


@given(QUANTITIES)
@settings(max_examples=40, deadline=None)
def test_a_unit_converted_and_back_is_the_same_quantity_and_another_number_is_not(quantity):
    value, (large, small, factor) = quantity
    here, there = rf"{value}\text{{ {large}}}", rf"{value * factor}\text{{ {small}}}"
    assert same_math(here, there)[0] is Outcome.CORRECT
    assert same_math(there, here)[0] is Outcome.CORRECT
    assert same_math(here, rf"{value}\text{{ {small}}}")[0] is Outcome.WRONG


@given(answers())
@settings(max_examples=40, deadline=None)
def test_nothing_finite_is_infinite(answer):
    for infinity in (r"\infty", r"-\infty", r"+\infty"):
        assert same_math(answer, infinity)[0] is not Outcome.CORRECT
        assert same_math(infinity, answer)[0] is not Outcome.CORRECT


@given(
    answers(),
    st.sampled_from(CLOSINGS),
    st.sampled_from(["", " This ends the proof.", "\n\nI hope this helps!"]),
)
@settings(max_examples=60, deadline=None)
def test_saying_the_answer_again_or_a_closing_sentence_changes_nothing(answer, closing, trailing):
    boxed = rf"Hence \boxed{{{answer}}}."
    for text in (boxed, f"{boxed} {closing.format(answer=answer)}", f"{boxed}{trailing}"):
        case = Case(kind="math", question="", reference=answer, text=text)
        assert judge_math(case, VerifyOptions()).outcome is Outcome.CORRECT, text


@given(NUMBERS, NUMBERS)
@settings(max_examples=60, deadline=None)
def test_a_wrong_final_statement_after_a_right_draft_is_wrong(right, wrong):
    if right == wrong:
        return
    for text in (
        rf"First \boxed{{{_latex(right)}}}. No: \boxed{{{_latex(wrong)}}}.",
        rf"First \boxed{{{_latex(right)}}}. Wait, so the answer is ${_latex(wrong)}$.",
        f"The answer is {_latex(right)}. Wait, the answer is ${_latex(wrong)}$.",
        rf"<think>It is \boxed{{{_latex(right)}}}</think> The answer is ${_latex(wrong)}$.",
    ):
        case = Case(kind="math", question="", reference=_latex(right), text=text)
        assert judge_case(case, VerifyOptions()).outcome is Outcome.WRONG, text


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_surds_are_equal_exactly_when_they_are(radicand, other_radicand, factor, other_factor):
    same = factor**2 * radicand == other_factor**2 * other_radicand
    first, second = rf"{factor}\sqrt{{{radicand}}}", rf"{other_factor}\sqrt{{{other_radicand}}}"
    assert (same_math(first, second)[0] is Outcome.CORRECT) == same


@given(st.sampled_from("ABCDEFGHIJ"), st.sampled_from("ABCDEFGHIJ"))
def test_letters_are_equal_exactly_when_they_are(reference, chosen):
    question = "Which?\n" + "\n".join(f"{letter}. word {letter.lower()}x" for letter in "ABCDEFGHIJ")
    for text in (rf"\boxed{{{chosen}}}", f"The answer is ({chosen}).", f"Answer: {chosen}", chosen):
        case = Case(kind="choice", question=question, reference=reference, text=text)
        assert judge_case(case, VerifyOptions()).is_correct == (reference == chosen)


DAY_FORMS = ("%Y-%m-%d", "%B %d, %Y", "%d %B %Y", "%b %d, %Y", "%d %b %Y")


@settings(max_examples=100)
@given(
    st.dates(min_value=date(1000, 1, 1)),
    st.dates(min_value=date(1000, 1, 1)),
    *[st.sampled_from(DAY_FORMS)] * 2,
)
def test_days_are_equal_exactly_when_they_are_however_they_are_written(day, other, form, other_form):
    assert same_math(day.strftime(form), day.strftime(other_form))[0] is Outcome.CORRECT
    is_same = same_math(day.strftime(form), other.strftime(other_form))[0] is Outcome.CORRECT
    assert is_same == (day == other)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("We add 4 and 5, which gives 9. The answer is 9.", "9"),
        ("There are 6 left.\nSo the final answer is: 6", "6"),
        ("The answer is 9", "9"),
        ("Show that the limit equals $2/e$.", "$2/e$"),
        ("The limit need not equal $1$.", "The limit need not equal $1$."),
        ("The value is $3$ if $n$ is odd.", "The value is $3$ if $n$ is odd."),
        ("It is 9. Nobody knows the answer", "It is 9. Nobody knows the answer"),
    ],
)
def test_a_solution_or_sentence_that_states_its_answer_at_its_end_is_a_reference(
    reference: str, answer: str
) -> None:
    assert reference_answer(reference) == answer


REJECTIONS = [
    "The answer is {0}, not {1}.",
    "Answer: {0} instead of {1}",
    "答案是{0}，不是{1}。",
    "答えは{1}ではなく{0}です。",
]


@given(st.integers(2, 10**6), st.integers(2, 10**6), st.sampled_from(REJECTIONS))
def test_a_rejected_value_is_never_the_answer(right, rejected, form):
    text = form.format(right, rejected)
    outcomes = [
        judge_math(Case(kind="math", question="", reference=str(value), text=text), VerifyOptions()).outcome
        for value in (right, rejected)
    ]
    assert outcomes[0] is Outcome.CORRECT
    assert right == rejected or outcomes[1] is not Outcome.CORRECT
