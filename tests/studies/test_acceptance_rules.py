"""The study of acceptance rules names what its runs ask for."""

import pytest

from drsft.config import Grounding
from tests.studies.acceptance_rules import rules_of

NO_RULE = {"derives_answer": False, "min_equations": 0, "min_answer_logprob": None, "narrows_gap": False}


@pytest.mark.parametrize(
    ("grounding", "rules"),
    [
        (None, "answer"),
        (Grounding(), "answer, calculation, log-prob, gap"),
        (Grounding(narrows_gap=False), "answer, calculation, log-prob"),
        (Grounding(**{**NO_RULE, "narrows_gap": True}), "answer, gap"),
        (Grounding(**{**NO_RULE, "min_equations": 1}), "answer, equations"),
        (Grounding(**NO_RULE), "answer"),
    ],
)
def test_rules_are_named_by_what_a_solution_must_show(grounding: Grounding | None, rules: str) -> None:
    assert rules_of(grounding) == rules
