"""Decides which samples of a bench are right: fixed beforehand, and the same for every tool that is measured.

A problem has a rate at which its samples are right. The rates follow a beta distribution, so samples of one
problem are alike, as they are with real models (independent samples would make every problem equally hard).
Self-alignment: beta(0.22, 0.75), where 39.9 % of problems have a right one among four samples; guided:
beta(0.5, 0.5), 72.7 %.
"""

import random

from drsft.records import Phase, stable_seed

__all__ = ["is_right"]

_RATES = {Phase.SELF_ALIGN: (0.22, 0.75), Phase.GUIDED: (0.5, 0.5)}  # the beta distribution's parameters


def is_right(problem_id: str, phase: Phase, sample_index: int) -> bool:
    """Returns whether the bench counts this sample as right; the result depends on the arguments alone."""
    rate = random.Random(stable_seed(0, problem_id, phase, "rate")).betavariate(*_RATES[phase])
    return random.Random(stable_seed(0, problem_id, phase, str(sample_index))).random() < rate
