"""Runs the phase in which a teacher solves the problem; its solutions are verified like the target's own."""

from dataclasses import dataclass, replace

from drsft.config import Teacher
from drsft.errors import InputError
from drsft.policy.prompts import Prompter, chat_messages
from drsft.policy.teacher import Teachers, TeacherText
from drsft.records import (
    Attempt,
    Completion,
    Outcome,
    Phase,
    Problem,
    Rejection,
    RejectionKind,
    Rollout,
    Verdict,
    stable_seed,
)
from drsft.rewrite.events import CascadeEvents
from drsft.rewrite.grounding import GroundingCheck
from drsft.rewrite.judging import AcceptanceRules, judge_rollout
from drsft.verify.protocol import Verifier

__all__ = ["TeacherPhase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherPhase:
    """The phase that asks one teacher for solutions of one problem and judges them."""

    problem: Problem
    teachers: Teachers
    teacher: Teacher
    prompter: Prompter
    verifier: Verifier
    rules: AcceptanceRules
    events: CascadeEvents
    run_seed: int
    grounding_check: GroundingCheck | None
    max_kept_tokens: int  # of a solution that is trained on as it is (`use: direct`)

    async def attempts(self) -> list[Attempt]:
        """Asks the teacher for `num_samples` solutions, judges them, and returns them as attempts.

        Where the endpoint failed to give a solution, the attempt is UNJUDGED with the reason. Raises
        SetupError if the teacher cannot be reached or rejects the key.
        """
        prompts = self.prompter.prompts
        messages = chat_messages(self.problem, prompts.plain, system=prompts.system)
        seed = stable_seed(self.run_seed, self.problem.problem_id, "teacher_samples")
        self.events.phase_begun(Phase.TEACHER)
        for index in range(self.teacher.num_samples):
            self.events.sample_begun(Phase.TEACHER, index)
        solutions = await self.teachers.solve(self.teacher, messages, seed=seed)
        for index in range(len(solutions)):
            self.events.sample_ended(Phase.TEACHER, index)
        found = []
        for index, solution in enumerate(solutions):
            attempt = await self._judged(solution, index)
            self.events.attempt_judged(attempt)
            found.append(attempt)
        return found

    async def _judged(self, solution: TeacherText, index: int) -> Attempt:
        failure = solution.failure
        completion = Completion(
            token_ids=(),
            text=solution.text,
            behaviour_logprobs_T=None,
            finish_reason=solution.finish_reason,
        )
        try:
            if not failure:
                written = self.prompter.solution(solution.text)
                completion = replace(written, finish_reason=solution.finish_reason)
        except InputError as error:
            failure = str(error)
        rollout = self._rollout(solution, index, completion)
        if failure:
            return Attempt(rollout=rollout, verdict=Verdict(outcome=Outcome.UNJUDGED, reason=failure))
        attempt = await judge_rollout(rollout, self.problem, self.rules, self.verifier, self.grounding_check)
        is_too_long = len(rollout.completion.token_ids) > self.max_kept_tokens
        if attempt.is_accepted and self.teacher.use == "direct" and is_too_long:
            return replace(attempt, rejection=Rejection(RejectionKind.TOO_LONG))
        return attempt

    def _rollout(self, solution: TeacherText, index: int, completion: Completion) -> Rollout:
        return Rollout(
            phase=Phase.TEACHER,
            sample_index=index,
            seed=solution.seed,
            prompt_hash="",
            completion=completion,
            policy=self.teacher.model,
        )
