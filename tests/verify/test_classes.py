"""Our own labelled cases by class: what an answer of the class must accept, and what it must not."""

import json
from pathlib import Path

import pytest

from drsft.records import Outcome
from drsft.verify.case import Case
from drsft.verify.extraction.thoughts import after_thoughts
from drsft.verify.kinds import judge_case
from drsft.verify.options import VerifyOptions

LINES = (Path(__file__).parents[1] / "golden" / "verify_classes.jsonl").open()
CASES = [json.loads(line) for line in LINES]
CLASSES = sorted({case["class"] for case in CASES})


@pytest.mark.parametrize("cls", CLASSES)
def test_every_labelled_case_of_a_class(cls):
    wrong = []
    for row in (row for row in CASES if row["class"] == cls):
        case = Case(
            kind=row.get("kind", "math"),
            question=row.get("question", ""),
            reference=row["reference"],
            text=row["prediction"],
        )
        verdict = judge_case(case, VerifyOptions())
        if verdict.is_correct != row["expected"]:
            wrong.append((row["id"], row["reference"], row["prediction"], verdict))
    assert wrong == []


def test_an_unclosed_thought_has_no_answer_and_says_so():
    case = Case(kind="math", question="", reference="4", text=r"<think>perhaps \boxed{4}")
    verdict = judge_case(case, VerifyOptions())
    assert (verdict.outcome, verdict.reason) == (Outcome.NO_ANSWER, "unclosed thought")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no marks", "no marks"),
        ("<think>a</think> b", " b"),
        ("a</think>b", "b"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a", None),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "b"),
        ("<|START_THINKING|>a<|END_THINKING|>b", "b"),
    ],
)
def test_what_follows_the_last_thought(text, said):
    assert after_thoughts(text) == said
