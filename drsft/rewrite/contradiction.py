"""Checks whether an expert's demonstration contradicts the reference answer of its problem."""

from drsft.records import Outcome, Problem, Verdict
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.statement import Place
from drsft.verify.steps.judge import ANSWER_AND_STEPS, MATH_KINDS

__all__ = ["contradicts"]

ANSWERED_KINDS = (*MATH_KINDS, "choice", "exact", "regex")  # others are judged as a whole, and so are wrong


def contradicts(problem: Problem, expert_verdict: Verdict | None) -> bool:
    """Returns whether the demonstration states an answer, and that answer is wrong.

    Many demonstrations end in prose that states no answer. The verifier then judges the last number or
    letter, which is a guess, or compares the prose; a wrong verdict on either contradicts nothing.
    """
    if expert_verdict is None or expert_verdict.outcome is not Outcome.WRONG:
        return False
    if problem.kind == ANSWER_AND_STEPS and expert_verdict.steps is not None:
        return False  # its answer is right, and only an equation on the way fails
    if problem.kind not in ANSWERED_KINDS:
        return True
    found = find_answer(problem.demonstration)
    return found is not None and found.place is not Place.CONCLUSION
