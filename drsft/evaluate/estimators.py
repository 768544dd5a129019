"""Estimates accuracy with 95 % intervals: avg@k, pass@k and maj@k.

Axes: S training seeds, P problems, K samples of a problem, A distinct answers.

Outcomes are 1 for a correct sample, else 0, as an array (P, K), or (S, P, K) when several trainings were
sampled on the same problems. drsft.evaluate.intervals describes how the intervals are computed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from drsft.evaluate.intervals import Estimate, FloatArray, crossed_mean, t_quantile

__all__ = ["MeanDifference", "avg_at_k", "checked_outcomes", "clustered_mean", "maj_at_k", "pass_at_k"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanDifference:
    """The mean of one value per problem, such as a difference, with its 95 % interval, in the same unit."""

    value: float
    standard_error: float
    low: float
    high: float
    num_problems: int
    share_positive: float  # of problems


def avg_at_k(outcomes: ArrayLike) -> Estimate:
    """Returns the mean accuracy over samples, then problems, then seeds; `outcomes` (P, K) or (S, P, K)."""
    outcomes_SPK = checked_outcomes(outcomes)
    return crossed_mean(outcomes_SPK.mean(axis=2), num_samples=outcomes_SPK.shape[2])


def pass_at_k(outcomes: ArrayLike, k: int) -> Estimate:
    """Returns the chance that at least one of k samples is correct, unbiased: 1 - C(n-c, k) / C(n, k).

    Here n is the number of a problem's samples and c that of its correct ones (Chen et al. 2021, arXiv
    2107.03374, eq. 1). `outcomes` is (P, K) or (S, P, K). Raises ValueError unless 1 <= k <= K.
    """
    outcomes_SPK = checked_outcomes(outcomes)
    num_samples = outcomes_SPK.shape[2]
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs between 1 and {num_samples} samples of a problem")
    total = math.comb(num_samples, k)
    by_correct = np.array([1.0 - math.comb(num_samples - c, k) / total for c in range(num_samples + 1)])
    num_correct_SP = outcomes_SPK.sum(axis=2).round().astype(np.int64)
    return crossed_mean(by_correct[num_correct_SP], num_samples=num_samples)


def maj_at_k(groups: ArrayLike) -> Estimate:
    """Returns the share of problems whose most frequent answer is the correct one.

    `groups` (P, K) or (S, P, K) numbers each sample's answer within its problem: 0 is the correct answer,
    other answers are positive, -1 is no vote. Of t answers that are equally frequent each counts 1 / t: the
    expectation of a tie broken at random. A problem without a vote counts 0.
    """
    groups_SPK = np.asarray(groups)
    groups_SPK = groups_SPK[np.newaxis] if groups_SPK.ndim == 2 else groups_SPK
    if groups_SPK.ndim != 3 or groups_SPK.size == 0 or not np.issubdtype(groups_SPK.dtype, np.integer):
        raise ValueError(f"expected answer groups (problems, samples) or (seeds, ...), got {groups!r:.80}")
    votes_SPA = (groups_SPK[..., np.newaxis] == np.arange(max(groups_SPK.max(), 0) + 1)).sum(axis=2)
    most_SP = votes_SPA.max(axis=2)
    num_first_SP = (votes_SPA == most_SP[..., np.newaxis]).sum(axis=2)
    is_first_SP = (votes_SPA[..., 0] == most_SP) & (most_SP > 0)
    return crossed_mean(is_first_SP / num_first_SP, num_samples=groups_SPK.shape[2])


def clustered_mean(values: ArrayLike) -> MeanDifference:
    """Returns the mean of one value per problem with its 95 % interval by Student's t.

    With one problem the interval is the value. Raises ValueError unless `values` is a list of at least one.
    """
    values_P = np.asarray(values, dtype=np.float64)
    if values_P.ndim != 1 or len(values_P) == 0:
        raise ValueError(f"expected one value per problem, got an array of shape {values_P.shape}")
    num_problems, mean = len(values_P), float(values_P.mean())
    error = margin = 0.0
    if num_problems > 1:
        error = float(values_P.std(ddof=1)) / math.sqrt(num_problems)
        margin = t_quantile(0.975, num_problems - 1) * error
    return MeanDifference(
        value=mean,
        standard_error=error,
        low=mean - margin,
        high=mean + margin,
        num_problems=num_problems,
        share_positive=float((values_P > 0).mean()),
    )


def checked_outcomes(outcomes: ArrayLike) -> FloatArray:
    array = np.asarray(outcomes, dtype=np.float64)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"expected outcomes (problems, samples) or (seeds, ...), got shape {array.shape}")
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    return array
