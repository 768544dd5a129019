"""Whether an expert's demonstration contradicts the reference answer it comes with."""

from drsft.records import Outcome, Problem, Verdict
from drsft.verify.maths.find import find_answer
from drsft.verify.steps import MATH_KINDS, only_steps_fail

__all__ = ["contradicts"]

ANSWERED_KINDS = (*MATH_KINDS, "choice", "exact", "regex")  # others are judged as a whole, and so are wrong


def contradicts(problem: Problem, expert_verdict: Verdict | None) -> bool:
    """The demonstration states an answer of its own, and that is wrong.

    Many demonstrations end in prose without saying what the answer is. The last number or letter of such a
    text is a guess of the verifier's, its prose is no string to compare, and neither contradicts anything.
    """
    if expert_verdict is None or expert_verdict.outcome is not Outcome.WRONG:
        return False
    if only_steps_fail(expert_verdict):
        return False
    if problem.kind not in ANSWERED_KINDS:
        return True
    found = find_answer(problem.demonstration)
    return found is not None and found.where != "last value"
