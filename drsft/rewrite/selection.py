"""Decides which of several accepted samples are kept."""

import math
from collections.abc import Sequence
from typing import Literal

from drsft.config import Selection
from drsft.records import Attempt, stable_seed

__all__ = ["Rank", "RankedSelection", "choose", "distinct", "rank_of"]

Rank = tuple[int, int]  # the lowest is kept first
RankedSelection = Literal["random", "first"]  # ranks are known before anything is sampled


def rank_of(how: RankedSelection, sample_index: int, *, problem_id: str, run_seed: int) -> Rank:
    """Returns a sample's rank among the samples of its phase; the accepted sample of the lowest rank is kept.

    With "first", the rank is the sample's index. With "random", it is drawn from the seed: every accepted
    sample is equally likely to be kept, however long it takes to finish.
    """
    match how:
        case "random":
            return stable_seed(run_seed, problem_id, "choose", str(sample_index)), sample_index
        case "first":
            return 0, sample_index


def distinct(accepted: Sequence[Attempt]) -> list[Attempt]:
    """Returns the attempts without those whose completion equals that of an earlier attempt."""
    found: dict[tuple[int, ...], Attempt] = {}
    for attempt in accepted:
        found.setdefault(attempt.rollout.completion.token_ids, attempt)
    return list(found.values())


def choose(
    accepted: Sequence[Attempt], how: Selection, num_wanted: int, *, problem_id: str, run_seed: int
) -> list[Attempt]:
    """Returns at most `num_wanted` attempts with different completions, the best first.

    The order in which samples finished does not matter: the lower sample index wins a tie, and the random
    order is seeded by the problem. "closest" reads `mean_phi`; an attempt without one counts as furthest.
    """
    candidates = distinct(sorted(accepted, key=lambda attempt: attempt.rollout.sample_index))
    match how:
        case "random" | "first":

            def rank(attempt: Attempt) -> Rank:
                return rank_of(how, attempt.rollout.sample_index, problem_id=problem_id, run_seed=run_seed)

            candidates = distinct(sorted(accepted, key=rank))
        case "shortest":
            candidates.sort(key=lambda attempt: len(attempt.rollout.completion.token_ids))
        case "most_likely":
            candidates.sort(key=lambda attempt: -_mean_logprob(attempt))
        case "closest":
            candidates.sort(key=_distance)
    return candidates[:num_wanted]


def _mean_logprob(attempt: Attempt) -> float:
    """Returns the mean log-prob per token, in nats, under the sample's own policy and prompt; -inf if
    unknown.
    """
    logprobs_T = attempt.rollout.completion.behaviour_logprobs_T
    return sum(logprobs_T) / len(logprobs_T) if logprobs_T else float("-inf")


def _distance(attempt: Attempt) -> float:
    """Returns |mean phi|: the mean is 0 for the model's own samples."""
    phi = attempt.mean_phi
    return math.inf if phi is None or math.isnan(phi) else abs(phi)
