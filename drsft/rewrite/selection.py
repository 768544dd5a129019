"""Which of several accepted samples are kept."""

import random
from collections.abc import Sequence

from drsft.config import Selection
from drsft.records import Attempt, stable_seed

__all__ = ["choose"]


def choose(
    accepted: Sequence[Attempt], how: Selection, num_wanted: int, *, problem_id: str, run_seed: int
) -> list[Attempt]:
    """At most `num_wanted` different completions, best first.

    The order in which samples finished does not matter: ties fall to the lower sample index, and the random
    order is seeded by the problem.
    """
    distinct: dict[tuple[int, ...], Attempt] = {}
    for attempt in sorted(accepted, key=lambda attempt: attempt.rollout.sample_index):
        distinct.setdefault(attempt.rollout.completion.token_ids, attempt)
    candidates = list(distinct.values())
    match how:
        case "random":
            random.Random(stable_seed(run_seed, problem_id, "choose")).shuffle(candidates)
        case "first":
            pass
        case "shortest":
            candidates.sort(key=lambda attempt: len(attempt.rollout.completion.token_ids))
        case "most_likely":
            candidates.sort(key=lambda attempt: -_mean_logprob(attempt))
    return candidates[:num_wanted]


def _mean_logprob(attempt: Attempt) -> float:
    """Under the policy and prompt that the sample was drawn with; unknown counts as least likely."""
    logprobs_T = attempt.rollout.completion.behaviour_logprobs_T
    return sum(logprobs_T) / len(logprobs_T) if logprobs_T else float("-inf")
