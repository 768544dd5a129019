"""The phase in which a teacher solves the problem; its solutions are verified like the target's own."""

from dataclasses import replace

from drsft.config import Teacher
from drsft.policy.prompts import Prompter, chat_messages, user_turn
from drsft.policy.teacher import Teachers, TeacherText
from drsft.records import (
    Attempt,
    Completion,
    Outcome,
    Phase,
    Rejection,
    RejectionKind,
    Rollout,
    Verdict,
    stable_seed,
)
from drsft.rewrite.events import CascadeEvents
from drsft.rewrite.sampling import PhasePlan, judge_rollout
from drsft.verify.protocol import Verifier

__all__ = ["solve_with_teacher"]


async def solve_with_teacher(
    plan: PhasePlan,
    teachers: Teachers,
    teacher: Teacher,
    prompter: Prompter,
    verifier: Verifier,
    events: CascadeEvents,
    *,
    max_kept_tokens: int,
) -> list[Attempt]:
    """Returns the teacher's solutions with their verdicts; one that it failed to give is UNJUDGED.

    A solution that would be kept as it is (`use: direct`) may have at most `max_kept_tokens`.
    Raises SetupError when the teacher cannot be reached, or refuses the key.
    """
    problem = plan.problem
    seed = stable_seed(plan.run_seed, problem.problem_id, "teacher_samples")
    messages = chat_messages(prompter.prompts.system, user_turn(prompter.prompts.plain, problem))
    events.phase_begun(Phase.TEACHER)
    for index in range(teacher.num_samples):
        events.sample_begun(Phase.TEACHER, index)
    solutions = await teachers.solve(teacher, messages, seed=seed)
    for index in range(len(solutions)):
        events.sample_ended(Phase.TEACHER, index)
    attempts = []
    for index, solution in enumerate(solutions):
        rollout = _rollout(solution, index, teacher, prompter)
        attempt = await _judged(rollout, solution, plan, verifier)
        is_too_long = len(rollout.completion.token_ids) > max_kept_tokens
        if attempt.is_accepted and teacher.use == "direct" and is_too_long:
            attempt = replace(attempt, rejection=Rejection(RejectionKind.TOO_LONG))
        events.attempt_judged(attempt)
        attempts.append(attempt)
    return attempts


def _rollout(solution: TeacherText, index: int, teacher: Teacher, prompter: Prompter) -> Rollout:
    completion = Completion(
        token_ids=() if solution.failure else prompter.completion(solution.text),
        text=solution.text,
        behaviour_logprobs_T=None,
        finish_reason=solution.finish_reason,
    )
    return Rollout(
        phase=Phase.TEACHER,
        sample_index=index,
        seed=solution.seed,
        prompt_hash="",
        completion=completion,
        policy=teacher.model,
    )


async def _judged(rollout: Rollout, solution: TeacherText, plan: PhasePlan, verifier: Verifier) -> Attempt:
    if solution.failure:
        verdict = Verdict(outcome=Outcome.UNJUDGED, reason=solution.failure)
        return Attempt(rollout=rollout, verdict=verdict)
    return await judge_rollout(rollout, plan, verifier)
