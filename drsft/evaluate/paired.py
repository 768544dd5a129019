"""Computes the paired difference of two models: which one solves more of the same problems, and how certain
that is.

Axes: S training seeds, P problems, K samples of a problem.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from drsft.evaluate.estimators import checked_outcomes
from drsft.evaluate.intervals import FloatArray, seeds_variance

__all__ = ["PairedDifference", "paired_difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The accuracy of the first model minus that of the second, in -1..1, with its 95 % interval.

    A model solves a problem if more than half of its samples do. `num_gained` counts the problems that only
    the first model solves, `num_lost` those that only the second one solves.
    """

    value: float
    low: float
    high: float
    num_problems: int
    num_gained: int
    num_lost: int

    @property
    def num_flipped(self) -> int:
        return self.num_gained + self.num_lost

    @property
    def is_clear(self) -> bool:
        """Whether the 95 % interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, num_resamples: int = 10_000
) -> PairedDifference:
    """Returns the accuracy of the first model minus the second's, bootstrapped over problems.

    Both are (P, K) or (S, P, K) on the same problems in the same order; K and S may differ. Where a model has
    several training seeds, each replicate also adds a draw from Student's t with S - 1 degrees of freedom
    times what the seeds add to the standard error: redrawing three seeds would miss a third of their variance
    and all of the tails. A model with one seed counts as that very checkpoint.
    """
    first_SPK, second_SPK = checked_outcomes(first), checked_outcomes(second)
    if first_SPK.shape[1] != second_SPK.shape[1]:
        raise ValueError(
            f"the models have samples of {first_SPK.shape[1]} and {second_SPK.shape[1]} problems; "
            "a paired difference needs the same problems"
        )
    first_P, second_P = first_SPK.mean(axis=(0, 2)), second_SPK.mean(axis=(0, 2))
    rng = np.random.default_rng(seed)
    replicates = _resampled_means(first_P - second_P, num_resamples, rng)
    for outcomes_SPK in (first_SPK, second_SPK):
        replicates += _seed_noise(outcomes_SPK.mean(axis=2), num_resamples, rng)
    low, high = (float(bound) for bound in np.quantile(replicates, (0.025, 0.975)))
    return PairedDifference(
        value=float((first_P - second_P).mean()),
        low=max(low, -1.0),
        high=min(high, 1.0),
        num_problems=len(first_P),
        num_gained=int(((first_P > 0.5) & (second_P <= 0.5)).sum()),
        num_lost=int(((first_P <= 0.5) & (second_P > 0.5)).sum()),
    )


def _resampled_means(values_P: FloatArray, num_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Returns bootstrap means over problems, in slices that keep the index array below about 16 MB."""
    num_problems = len(values_P)
    slice_size = max(1, 2_000_000 // num_problems)
    parts = []
    for start in range(0, num_resamples, slice_size):
        shape = (min(slice_size, num_resamples - start), num_problems)
        parts.append(values_P[rng.integers(num_problems, size=shape)].mean(axis=1))
    return np.concatenate(parts)


def _seed_noise(values_SP: FloatArray, num_resamples: int, rng: np.random.Generator) -> FloatArray:
    num_seeds = len(values_SP)
    if num_seeds == 1:
        return np.zeros(num_resamples)
    return math.sqrt(seeds_variance(values_SP)) * rng.standard_t(num_seeds - 1, size=num_resamples)
