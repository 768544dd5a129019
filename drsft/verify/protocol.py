"""The interface of every verifier: from a problem and a completion's text to a verdict."""

from typing import Protocol

from drsft.records import Completion, Outcome, Problem, Verdict

__all__ = ["UNCLOSED", "Verifier", "judge_completion"]

UNCLOSED = "unclosed thought"  # the reason of a NO_ANSWER


class Verifier(Protocol):
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        """Returns the verdict on a text that answers the problem; TRUNCATED if `is_truncated`.

        No text raises an error: a failure (time limit, crash) is UNJUDGED with its reason.
        """
        ...


async def judge_completion(verifier: Verifier, problem: Problem, completion: Completion) -> Verdict:
    """Returns the verdict on a completion's answer; NO_ANSWER if it stopped inside its thought."""
    if completion.has_open_thought and not completion.is_truncated:
        return Verdict(outcome=Outcome.NO_ANSWER, reason=UNCLOSED)
    return await verifier.judge(problem, completion.text, is_truncated=completion.is_truncated)
