"""Collects the grounding check's scores of guided solutions for the report's page and the terminal."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from drsft.records import Attempt, Problem, Record

__all__ = ["GroundedAttempt", "GroundingBin", "GroundingShown", "grounding_of"]

LOWEST_NATS = -15  # the first bin takes all below it


@dataclass(frozen=True, slots=True)
class GroundedAttempt:
    """A guided attempt with the log-prob of its answer under the plain prompt."""

    problem: Problem
    attempt: Attempt
    answer_logprob: float  # nats


@dataclass(frozen=True, slots=True)
class GroundingBin:
    """How many solutions have an answer log-prob from low_nats to low_nats + 1."""

    low_nats: int
    num_scored: int
    num_accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingShown:
    """The guided solutions that were scored, as counts and examples.

    `lowest` are those with the least likely answers, the least likely first; `highest` the most likely first.
    """

    num_scored: int
    num_accepted: int
    num_by_rejection: tuple[tuple[str, int], ...]  # the most frequent first
    bins: tuple[GroundingBin, ...]  # without gaps between the first and the last
    lowest: tuple[GroundedAttempt, ...]
    highest: tuple[GroundedAttempt, ...]


def grounding_of(records: Iterable[Record], *, num_examples: int) -> GroundingShown | None:
    """Returns the scores of the records' guided solutions, with `num_examples` of the least and of the most
    likely answers; None if no solution was scored.
    """
    found = [
        GroundedAttempt(record.problem, attempt, attempt.grounding.answer_logprob)
        for record in records
        for attempt in record.attempts
        if attempt.grounding is not None and attempt.grounding.answer_logprob is not None
    ]
    if not found:
        return None
    found.sort(key=lambda one: (one.answer_logprob, one.problem.problem_id))
    accepted = [one for one in found if one.attempt.is_accepted]
    rejections = Counter(str(one.attempt.rejection) for one in found if one.attempt.rejection is not None)
    scored_in, accepted_in = Counter(map(_bin, found)), Counter(map(_bin, accepted))
    return GroundingShown(
        num_scored=len(found),
        num_accepted=len(accepted),
        num_by_rejection=tuple(rejections.most_common()),
        bins=tuple(
            GroundingBin(nats, scored_in[nats], accepted_in[nats])
            for nats in range(min(scored_in), max(scored_in) + 1)
        ),
        lowest=tuple(found[:num_examples]),
        highest=tuple(found[::-1][:num_examples]),
    )


def _bin(one: GroundedAttempt) -> int:
    return int(max(one.answer_logprob // 1, LOWEST_NATS))
