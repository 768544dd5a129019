"""Judge a mathematical answer (first slice: extraction, equal after normalising, math-verify)."""

import re

from drsft.records import Outcome, Verdict
from drsft.verify import clock
from drsft.verify.answers import find_answer, parse_reference
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case

__all__ = ["judge_math"]

SYMBOLIC_BUDGET_S = 3.0


def _plain(answer: str) -> str:
    return re.sub(r"\s+|\\left|\\right|\$|(?<=\d),(?=\d{3}\b)", "", answer.replace("dfrac", "frac")).rstrip(
        "."
    )


def _symbolic(reference: str, answer: str) -> bool:
    import math_verify

    clock.loaded()
    first = math_verify.parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
    second = math_verify.parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return bool(math_verify.verify(first, second, timeout_seconds=None))


def judge_math(case: Case, options: VerifyOptions) -> Verdict:
    answer = find_answer(case.text)
    if answer is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no answer found")
    reference = parse_reference(case.reference, case.kind)
    if reference is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="no parsable reference", answer=answer)
    if _plain(answer) == _plain(reference):
        return Verdict(outcome=Outcome.CORRECT, reason="equal after normalising", answer=answer)
    try:
        with clock.budget(SYMBOLIC_BUDGET_S):
            is_equal = _symbolic(reference, answer)
    except clock.OverBudget:
        return Verdict(outcome=Outcome.UNJUDGED, reason="symbolic step over its budget", answer=answer)
    outcome = Outcome.CORRECT if is_equal else Outcome.WRONG
    return Verdict(outcome=outcome, reason="symbolic", answer=answer)
