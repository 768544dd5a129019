"""Groups a problem's samples by answer, as maj@k needs them; the verifier decides which answers are equal.

Groups are numbered within a problem: 0 has the correct samples, 1 and up the other answers in order of their
first sample. A sample that was cut off or has no answer does not vote.
"""

from collections.abc import Sequence
from dataclasses import replace

from drsft.records import Outcome, Problem, Verdict
from drsft.verify.protocol import Verifier

__all__ = ["CORRECT_GROUP", "answer_groups"]

CORRECT_GROUP = 0
VOTING = (Outcome.CORRECT, Outcome.WRONG, Outcome.UNJUDGED)
COMPARED = frozenset({"math", "math+steps", "numeric", "choice", "exact"})  # answers can be references
WITHOUT_VOTE = frozenset({"code", "steps"})  # programs cannot be compared


async def answer_groups(
    problem: Problem, verdicts: Sequence[Verdict], verifier: Verifier
) -> list[int | None]:
    """Returns each sample's group number for maj@k; None for a sample without a vote.

    Group 0 is the correct answer; 1, 2, … are other answers. An answer joins the first group whose first
    answer it equals, as judged by the verifier with that first answer as the reference.
    """
    if problem.kind in WITHOUT_VOTE:
        return [None] * len(verdicts)
    firsts: list[str] = []
    known: dict[str, int] = {}
    groups: list[int | None] = []
    for verdict in verdicts:
        if verdict.is_correct:
            groups.append(CORRECT_GROUP)
        elif verdict.answer is None or verdict.outcome not in VOTING:
            groups.append(None)
        else:
            answer = " ".join(verdict.answer.split())
            if answer not in known:
                known[answer] = await _place(problem, answer, firsts, verifier)
            groups.append(known[answer])
    return groups


async def _place(problem: Problem, answer: str, firsts: list[str], verifier: Verifier) -> int:
    """Returns the group number of a wrong answer; a new answer is appended to `firsts`."""
    if problem.kind in COMPARED:
        for number, first in enumerate(firsts, start=1):
            finding = await verifier.judge(replace(problem, reference=first), f"\\boxed{{{answer}}}")
            if finding.is_correct:
                return number
    firsts.append(answer)
    return len(firsts)
