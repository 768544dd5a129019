"""Which of several accepted samples is kept."""

import random
from collections.abc import Sequence

from drsft.records import Attempt, stable_seed

__all__ = ["choose"]


def choose(accepted: Sequence[Attempt], problem_id: str, run_seed: int) -> Attempt:
    """One at random, seeded by the problem: order of completion, batches and resumption do not change it."""
    order = sorted(accepted, key=lambda attempt: attempt.rollout.sample_index)
    return random.Random(stable_seed(run_seed, problem_id, "choose")).choice(order)
