"""Checks whether a guided solution leads to its answer by itself.

A sample that saw a guide can copy its answer: the verdict is CORRECT, and the text before it is worthless for
training. So a guided solution must have a calculation that gives its answer, and its equations must hold.
Then it is scored after the plain prompt, which does not contain the answer: how likely is the answer where
the solution first states it? The whole text's log-prob is also compared with the expert's: a text that is
less likely would widen the gap that rewriting should close. docs/grounding.md describes how the rules were
calibrated.
"""

import asyncio
from collections.abc import Callable, Sequence

from drsft.config import Grounding
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import ScoringPolicy
from drsft.records import (
    Completion,
    GroundingScores,
    Outcome,
    Problem,
    Rejection,
    RejectionKind,
    StepReport,
    Verdict,
)
from drsft.rewrite.stated_answer import first_statement, token_range

__all__ = ["GroundingCheck", "rejection_of_scores", "rejection_of_steps", "stating_tokens"]


class GroundingCheck:
    """Scores the solutions of one problem; each distinct text is scored once."""

    def __init__(
        self, problem: Problem, plain_ids: Sequence[int], policy: ScoringPolicy, prompter: Prompter
    ) -> None:
        self._problem, self._plain_ids = problem, plain_ids
        self._policy, self._prompter = policy, prompter
        self._logprobs_T: dict[tuple[int, ...], asyncio.Task[Sequence[float]]] = {}

    async def scores(
        self, completion: Completion, answer: str | None, *, beside_expert: bool = True
    ) -> GroundingScores:
        """Returns how likely the target finds a solution and its answer after the plain prompt.

        `answer` is what the verifier read from the solution. With `beside_expert`, the expert's text is
        scored too. Raises InputError if a text is too long for the model.
        """
        logprobs_T, expert = await asyncio.gather(
            self._logprobs(completion.token_ids),
            self._expert_logprob() if beside_expert else asyncio.sleep(0),
        )
        return GroundingScores(
            answer_logprob=self._stated_logprob(completion, logprobs_T, answer),
            mean_logprob=_mean(logprobs_T),
            expert_mean_logprob=expert,
        )

    async def _expert_logprob(self) -> float | None:
        if not self._problem.demonstration.strip():
            return None
        return _mean(await self._logprobs(self._prompter.completion(self._problem.demonstration)))

    async def _logprobs(self, completion_ids: tuple[int, ...]) -> Sequence[float]:
        if completion_ids not in self._logprobs_T:
            scoring = self._policy.logprobs(self._plain_ids, completion_ids)
            self._logprobs_T[completion_ids] = asyncio.ensure_future(scoring)
        return await self._logprobs_T[completion_ids]

    def _stated_logprob(
        self, completion: Completion, logprobs_T: Sequence[float], answer: str | None
    ) -> float | None:
        """Returns the log-prob of the tokens that first state the answer; None if no tokens do.

        The extracted answer may include its calculation, "5 + 3 = 8", so the reference is searched first.
        """
        question = self._problem.whole_question
        for stated in filter(None, (self._problem.reference, answer)):
            tokens = stating_tokens(completion, stated, question, self._prompter.decode)
            if tokens is not None:
                return sum(logprobs_T[tokens.start : tokens.stop])
        return None


def stating_tokens(
    completion: Completion, answer: str, question: str, decode: Callable[[Sequence[int]], str]
) -> range | None:
    """Returns the indices of the completion's tokens that first state the answer, after its thought.

    Returns None if no tokens do.
    """
    where = first_statement(completion.text, answer, question)
    if where is None:
        return None
    begun = 0 if completion.thought is None else completion.thought.num_tokens
    answer_ids = completion.token_ids[begun:]
    # A template may put white space or a header between a thought, or the prompt, and the answer.
    offset = max(decode(answer_ids).find(completion.text), 0)
    tokens = token_range(answer_ids, slice(where.start + offset, where.stop + offset), decode)
    return range(begun + tokens.start, begun + tokens.stop)


def rejection_of_steps(steps: Verdict | None, settings: Grounding) -> Rejection | None:
    """Returns the reason to reject a right guided solution by its equations; None if there is none."""
    if steps is None or not (settings.min_equations or settings.derives_answer):
        return None
    if steps.outcome is Outcome.WRONG:
        return Rejection(RejectionKind.UNSOUND_STEPS)
    report = steps.steps or StepReport(num_read=0, num_failed=0)
    if settings.derives_answer and report.derives_answer is not None:
        return None if report.derives_answer else Rejection(RejectionKind.UNDERIVED)
    return Rejection(RejectionKind.TOO_FEW_STEPS) if report.num_read < settings.min_equations else None


def rejection_of_scores(scores: GroundingScores, settings: Grounding) -> Rejection | None:
    """Returns the first reason to reject a right guided solution by its scores; None if there is none.

    A score that is None is no reason.
    """
    answer, least = scores.answer_logprob, settings.min_answer_logprob
    if answer is not None and least is not None and answer < least:
        return Rejection(RejectionKind.UNGROUNDED)
    expert = scores.expert_mean_logprob
    if settings.narrows_gap and expert is not None and scores.mean_logprob < expert:
        return Rejection(RejectionKind.WIDENS_GAP)
    return None


def _mean(logprobs_T: Sequence[float]) -> float:
    return sum(logprobs_T) / len(logprobs_T)
