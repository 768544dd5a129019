"""Which of several accepted samples are kept."""

import math
from collections.abc import Sequence
from typing import Literal

from drsft.config import Selection
from drsft.records import Attempt, stable_seed

__all__ = ["choose", "distinct", "place"]

Place = tuple[int, int]
PlacedSelection = Literal["random", "first"]


def place(how: PlacedSelection, sample_index: int, *, problem_id: str, run_seed: int) -> Place:
    """Where a sample stands among those to be kept, the lowest first, before anything of it is known.

    "random" is a seeded order of the samples, of which the first accepted one is kept: each accepted sample
    is as likely as another, however long it takes to finish.
    """
    match how:
        case "random":
            return stable_seed(run_seed, problem_id, "choose", str(sample_index)), sample_index
        case "first":
            return 0, sample_index


def distinct(accepted: Sequence[Attempt]) -> list[Attempt]:
    """The first attempt with each different completion, in the order given."""
    found: dict[tuple[int, ...], Attempt] = {}
    for attempt in accepted:
        found.setdefault(attempt.rollout.completion.token_ids, attempt)
    return list(found.values())


def choose(
    accepted: Sequence[Attempt], how: Selection, num_wanted: int, *, problem_id: str, run_seed: int
) -> list[Attempt]:
    """At most `num_wanted` different completions, best first.

    The order in which samples finished does not matter: ties fall to the lower sample index, and the random
    order is seeded by the problem. "closest" reads `mean_phi`; what has none counts as furthest.
    """
    candidates = distinct(sorted(accepted, key=lambda attempt: attempt.rollout.sample_index))
    match how:
        case "random" | "first":

            def in_place(attempt: Attempt) -> Place:
                return place(how, attempt.rollout.sample_index, problem_id=problem_id, run_seed=run_seed)

            candidates = distinct(sorted(accepted, key=in_place))
        case "shortest":
            candidates.sort(key=lambda attempt: len(attempt.rollout.completion.token_ids))
        case "most_likely":
            candidates.sort(key=lambda attempt: -_mean_logprob(attempt))
        case "closest":
            candidates.sort(key=_distance)
    return candidates[:num_wanted]


def _mean_logprob(attempt: Attempt) -> float:
    """Under the policy and prompt that the sample was drawn with; unknown counts as least likely."""
    logprobs_T = attempt.rollout.completion.behaviour_logprobs_T
    return sum(logprobs_T) / len(logprobs_T) if logprobs_T else float("-inf")


def _distance(attempt: Attempt) -> float:
    """From the model's own distribution, where the mean of phi is 0."""
    phi = attempt.mean_phi
    return math.inf if phi is None or math.isnan(phi) else abs(phi)
