"""Judges one sample: the verifier's verdict, and for a right sample every further reason to reject it."""

from dataclasses import dataclass, replace

from drsft.config import Grounding, Rejections, Rewrite
from drsft.errors import InputError
from drsft.process.tracing import span
from drsft.records import (
    Attempt,
    Outcome,
    Phase,
    Problem,
    Rejection,
    RejectionKind,
    Rollout,
    Verdict,
)
from drsft.rewrite.grounding import GroundingCheck, rejection_of_scores, rejection_of_steps
from drsft.rewrite.rejection import different_boxes, rejection_of
from drsft.verify.protocol import Verifier, judge_completion
from drsft.verify.steps.judge import MATH_KINDS

__all__ = ["AcceptanceRules", "judge_rollout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceRules:
    """The conditions that a phase's CORRECT samples must also meet to be accepted."""

    rejections: Rejections
    sees_guide: bool  # the phase's prompt shows a solution or an answer
    checks_steps: bool  # the equations of right solutions are judged and recorded
    require_steps: bool  # false equations are a reason to reject
    grounding: Grounding | None = None  # what they must show without the guide

    @classmethod
    def of(cls, rewrite: Rewrite, phase: Phase) -> "AcceptanceRules":
        is_own = phase is Phase.SELF_ALIGN
        return cls(
            rejections=rewrite.refusals,
            sees_guide=not is_own and phase is not Phase.TEACHER,
            checks_steps=not is_own,
            require_steps=not is_own and rewrite.guided.require_steps,
            grounding=None if is_own else rewrite.grounding,
        )


async def judge_rollout(
    rollout: Rollout,
    problem: Problem,
    rules: AcceptanceRules,
    verifier: Verifier,
    grounding_check: GroundingCheck | None = None,
) -> Attempt:
    """Returns the rollout with its verdict and, if it is CORRECT, the first reason to reject it, if any.

    If the rules require grounding, `grounding_check` scores samples that no other rule rejects; ValueError is
    raised if `grounding_check` is None then.
    """
    completion, sample_index = rollout.completion, rollout.sample_index
    with span("verify", sample=sample_index) as opened:
        verdict = await judge_completion(verifier, problem, completion)
        opened.set_attribute("outcome", verdict.outcome.value)
        opened.set_attribute("reason", verdict.reason)
    if not verdict.is_correct:
        return Attempt(rollout=rollout, verdict=verdict)
    rejection = rejection_of(
        completion, rules.rejections, question=problem.whole_question, sees_guide=rules.sees_guide
    )
    if rejection is None and rules.rejections.several_boxes:
        rejection = await _rejection_of_boxes(completion.text, problem, verifier)
    steps = await _steps(rollout, problem, verifier) if rules.checks_steps else None
    if rejection is None and rules.require_steps and steps and steps.outcome is Outcome.WRONG:
        rejection = Rejection(RejectionKind.UNSOUND_STEPS)
    if rejection is not None or rules.grounding is None:
        return Attempt(rollout=rollout, verdict=verdict, rejection=rejection, steps=steps)
    return await _grounded(
        Attempt(
            rollout=rollout,
            verdict=verdict,
            rejection=rejection_of_steps(steps, rules.grounding),
            steps=steps,
        ),
        rules.grounding,
        grounding_check,
    )


async def _grounded(attempt: Attempt, settings: Grounding, grounding_check: GroundingCheck | None) -> Attempt:
    """Returns the attempt with its scores, and with the rejection that follows from them.

    It is not scored if its equations already reject it, or if it is too long after the plain prompt.
    """
    if grounding_check is None:
        raise ValueError(
            "the rules check grounding, but no grounding_check was given; pass one, or set grounding to None"
        )
    if attempt.rejection is not None:
        return attempt
    with span("ground", sample=attempt.rollout.sample_index):
        try:
            scores = await grounding_check.scores(
                attempt.rollout.completion, attempt.verdict.answer, beside_expert=settings.narrows_gap
            )
        except InputError:
            return attempt
    return replace(attempt, grounding=scores, rejection=rejection_of_scores(scores, settings))


async def _rejection_of_boxes(text: str, problem: Problem, verifier: Verifier) -> Rejection | None:
    """Returns the rejection of a right solution that has a box with a wrong answer in it; None if it has
    none.
    """
    for content in different_boxes(text):
        if not (await verifier.judge(problem, f"\\boxed{{{content}}}")).is_correct:
            return Rejection(RejectionKind.SEVERAL_BOXES)
    return None


async def _steps(rollout: Rollout, problem: Problem, verifier: Verifier) -> Verdict | None:
    """Returns the verdict on the solution's equations; None if the problem is not a mathematical one."""
    if problem.kind not in MATH_KINDS:
        return None
    with span("verify", sample=rollout.sample_index, of="steps"):
        return await verifier.judge(replace(problem, kind="steps"), rollout.completion.text)
