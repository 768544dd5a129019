"""Labelled answers by class, and the guards against false acceptance that each class needs."""

import json
from pathlib import Path

import pytest

from drsft.records import Outcome
from drsft.verify.case import Case
from drsft.verify.maths.judge import judge_math
from drsft.verify.maths.same import same_math
from drsft.verify.options import VerifyOptions
from drsft.verify.references import parse_reference

CASES = [json.loads(line) for line in (Path(__file__).parents[2] / "golden" / "verify_math.jsonl").open()]
CLASSES = sorted({case["cls"] for case in CASES})


def judge(reference: str, text: str, **options: bool):
    case = Case(kind="math", question="", reference=reference, text=text)
    return judge_math(case, VerifyOptions(**options))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_labelled_case_of_a_class(cls):
    wrong = [
        (case["reference"], case["prediction"], verdict)
        for case in CASES
        if case["cls"] == cls
        for verdict in [judge(case["reference"], case["prediction"])]
        if verdict.is_correct != case["expected"]
    ]
    assert wrong == []


def test_a_text_without_an_answer_is_not_a_wrong_one():
    assert judge("5", "").outcome is Outcome.NO_ANSWER
    assert judge("5", r"so \boxed{}").outcome is Outcome.NO_ANSWER


def test_a_value_that_no_machine_holds_is_unjudged_and_costs_nothing():
    verdict = judge("5", r"\boxed{9^{9^{9^{9}}}}")
    assert (verdict.outcome, verdict.reason) == (Outcome.UNJUDGED, "value too large to compute")


def test_a_required_box_is_required():
    assert judge("5", "The answer is 5.").is_correct
    assert judge("5", "The answer is 5.", require_box=True).outcome is Outcome.NO_ANSWER


def test_a_sentence_that_cannot_be_compared_is_unjudged():
    reference = r"\text{The midpoints form a regular hexagon}"
    outcome, _ = same_math(reference, r"\text{They are the corners of a hexagon with equal sides}")
    assert outcome is Outcome.UNJUDGED


def test_a_reference_may_be_a_whole_solution():
    assert judge(r"As $2+2=4$, the answer is $\boxed{4}$.", "It is 4.").is_correct


@pytest.mark.parametrize(
    ("reference", "kind", "expected"),
    [
        ("72", "math", "72"),
        (r"so \boxed{\frac12}", "math", r"\frac12"),
        ("", "math", None),
        (r"so \boxed{}", "math", None),
        ("3.5 ± 0.1", "numeric", "3.5 ± 0.1"),
        ("a lot", "numeric", None),
        ("[0-9", "regex", None),
        ('{"tests": ["assert True"]}', "code", '{"tests": ["assert True"]}'),
        ("assert True", "code", None),
    ],
)
def test_references_that_cannot_be_judged_are_known_beforehand(reference, kind, expected):
    assert parse_reference(reference, kind) == expected
