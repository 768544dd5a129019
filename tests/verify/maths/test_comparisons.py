"""Every pair of types of answers: a comparison that is defined, or a verdict that says that there is none."""

from itertools import combinations_with_replacement

import pytest

from drsft.records import Outcome
from drsft.verify.case import Case
from drsft.verify.explain import explain
from drsft.verify.kinds import judge_case
from drsft.verify.maths.answer import AnswerType, readings_of, type_of
from drsft.verify.maths.compare import COMPARISONS, RULES
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.same import same_math
from drsft.verify.options import VerifyOptions

EXAMPLES = {
    AnswerType.NUMBER: ("7", r"\frac{5}{3}"),
    AnswerType.EXPRESSION: ("x+7", r"\frac{y}{3}"),
    AnswerType.QUANTITY: (r"7\text{ km}", r"8\text{ apples}"),
    AnswerType.SET: (r"\{7, 9\}", r"\{x : x > 4\}"),
    AnswerType.TUPLE: ("(7, 9)", "(1, 2, 3)"),
    AnswerType.INTERVAL: ("[7, 9)", r"(4, \infty)"),
    AnswerType.LIST: ("7, 9", "x=1, x=8"),
    AnswerType.MATRIX: (
        r"\begin{pmatrix} 7 & 9 \end{pmatrix}",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
    ),
    AnswerType.RELATION: ("x = 6", "y < 4"),
    AnswerType.FUNCTION_VALUE: ("f(2) = 6", "g(x) = x^2"),
    AnswerType.OPTIONS: ("(1)(3)", "①②"),
    AnswerType.BOOLEAN: ("true", "no"),
    AnswerType.TIME: ("4:35 pm", "March 3, 2024"),
    AnswerType.TEXT: ("south", r"\text{the ellipse}"),
}
PAIRS = list(combinations_with_replacement(AnswerType, 2))


def test_every_type_has_examples_that_are_read_as_it():
    for kind, texts in EXAMPLES.items():
        assert [type_of(readings_of(clean(text))[0]) for text in texts] == [kind, kind]
    assert EXAMPLES.keys() == set(AnswerType)


def test_no_pair_of_types_has_two_rules():
    pairs = {frozenset((one, other)) for first, second, _ in RULES for one in first for other in second}
    num_ordered = [
        len({frozenset((one, other)) for one in first for other in second}) for first, second, _ in RULES
    ]
    assert len(pairs) == sum(num_ordered) == len(COMPARISONS)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_different_answers_of_any_two_types_are_never_correct_and_a_pair_without_a_rule_says_so(one, other):
    """A relation stands for its value, so its type may be its value's; all others say what they are."""
    for left, right in ((EXAMPLES[one][0], EXAMPLES[other][1]), (EXAMPLES[other][1], EXAMPLES[one][0])):
        outcome, reason = same_math(left, right)
        assert outcome is not Outcome.CORRECT, (left, right)
        has_rule = frozenset((one, other)) in COMPARISONS
        assert reason.startswith("no comparison of ") != has_rule, (left, right, reason)


def test_an_explanation_names_the_types_that_have_no_comparison():
    case = Case(kind="math", question="", reference="7", text=r"So \boxed{\text{south}}.")
    verdict = judge_case(case, VerifyOptions())
    reference, answer, compared = explain(case, verdict, VerifyOptions())
    assert answer is not None
    assert (reference.type, answer.type, verdict.outcome) == ("number", "text", Outcome.WRONG)
    assert compared == "no comparison of number with text"
