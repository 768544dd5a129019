"""Turns the check of a solution's equations into a verdict, by itself or together with the answer's."""

from dataclasses import replace

from drsft.records import NO_EQUATION_READ, Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.maths.judge import judge_math
from drsft.verify.options import VerifyOptions
from drsft.verify.steps.check import check_steps
from drsft.verify.steps.derivation import derives

__all__ = ["ANSWER_AND_STEPS", "MATH_KINDS", "judge_math_with_steps", "judge_steps"]

ANSWER_AND_STEPS = "math+steps"  # the kind that `judge_math_with_steps` judges
MATH_KINDS = ("math", ANSWER_AND_STEPS, "numeric")  # whose solutions are prose with equations


def judge_steps(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT if all equations of the text that can be parsed hold, and WRONG if one fails.

    Returns NO_ANSWER if no equation can be parsed. The verdict's report also tells whether a calculation
    gives the case's reference.
    """
    report = replace(check_steps(case.text), derives_answer=derives(case.text, case.reference))
    if not report.num_read:
        return Verdict(outcome=Outcome.NO_ANSWER, reason=NO_EQUATION_READ, steps=report)
    outcome = Outcome.CORRECT if report.holds else Outcome.WRONG
    return Verdict(outcome=outcome, reason=report.text, answer=report.first_failure, steps=report)


def judge_math_with_steps(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT only if the answer is right and no equation of the solution fails.

    If the answer is right but an equation fails, the verdict is WRONG and has the report on the steps.
    """
    verdict = judge_math(case, options)
    if not verdict.is_correct:
        return verdict
    report = check_steps(case.text)
    if report.holds:
        return Verdict(outcome=verdict.outcome, reason=f"{verdict.reason}; steps hold", answer=verdict.answer)
    return Verdict(
        outcome=Outcome.WRONG,
        reason=f"right answer, but {report.text}",
        answer=report.first_failure,
        steps=report,
    )
