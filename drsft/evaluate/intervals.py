"""Computes the interval of a mean over problems, or over training seeds and problems.

Axes: S training seeds, P problems.

The problem is the unit that was drawn: K samples of one problem are not K pieces of evidence, so every
interval is clustered by problem. Over seeds the design is crossed (each seed meets each problem), and both
were drawn: the squared standard error of the grand mean is

    (MS_seeds + MS_problems - MS_rest) / (S P)

with the mean squares of a two-way layout without replication (the usual random-effects analysis of variance;
the same three terms as two-way clustering, Cameron, Gelbach and Miller 2011). A crossed bootstrap was the
alternative: from three seeds it can only redraw three values, finds two thirds of their variance, and knows
nothing of a t distribution with two degrees of freedom.

The quantile is the mean of Student's for the seeds and for the problems, weighted by their parts of that
variance (Cochran and Cox 1950). Satterthwaite's degrees of freedom were the alternative: estimated from three
seeds they are as uncertain as the seeds' variance itself, and where seeds weigh most they covered 93 %. The
interval is on the logit scale (delta method), so it stays inside 0..1 and keeps its coverage near the ends
(measured by tests/studies/coverage.py). Where every problem came out the same way it is Wilson's, each
problem counted once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "FloatArray", "crossed_mean", "problems_variance", "seeds_variance", "t_quantile"]

FloatArray = NDArray[np.float64]
NO_SPREAD = 1e-20  # rounding can leave this much variance if all problems agree


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A share in 0..1 with its standard error and 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float
    num_problems: int
    num_samples: int  # K: of one problem, in one training
    seed_values: tuple[float, ...]  # the value of each training on its own


def crossed_mean(values_SP: FloatArray, *, num_samples: int) -> Estimate:
    """Returns the mean of all values, which are shares in 0..1, with its standard error and 95 % interval.

    The module's docstring explains the interval.
    """
    (num_seeds, num_problems), mean = values_SP.shape, float(values_SP.mean())
    from_problems, from_seeds = problems_variance(values_SP.mean(axis=0)), seeds_variance(values_SP)
    variance = from_problems + from_seeds
    quantile = 0.0
    if num_problems > 1 and variance > NO_SPREAD:
        quantile = t_quantile(0.975, num_problems - 1.0)
        if from_seeds > 0:
            share = from_seeds / variance
            quantile += share * (t_quantile(0.975, num_seeds - 1.0) - quantile)
    low, high = _interval(mean, quantile * math.sqrt(variance), num_problems)
    return Estimate(
        value=mean,
        standard_error=math.sqrt(variance),
        low=low,
        high=high,
        num_problems=num_problems,
        num_samples=num_samples,
        seed_values=tuple(values_SP.mean(axis=1).tolist()),
    )


def problems_variance(values_P: FloatArray) -> float:
    """Returns the variance of the mean of `values_P`, the problems' means over seeds.

    In the analysis of variance with S seeds and P problems it is MS_problems / (S P).
    With one problem it is 0.25, the largest variance that a share can have.
    """
    return float(values_P.var(ddof=1)) / len(values_P) if len(values_P) > 1 else 0.25


def seeds_variance(values_SP: FloatArray) -> float:
    """Returns what seeds add to the variance of the grand mean: (MS_seeds - MS_rest) / (S P), at least 0.

    The lower bound matters when seeds happen to agree better than their noise allows: they must not reduce
    the problems' part.
    """
    num_seeds, num_problems = values_SP.shape
    if num_seeds == 1 or num_problems == 1:
        return 0.0
    problems_P, seeds_S, mean = values_SP.mean(axis=0), values_SP.mean(axis=1), values_SP.mean()
    rest_SP = values_SP - seeds_S[:, np.newaxis] - problems_P + mean
    ms_seeds = num_problems * float(seeds_S.var(ddof=1))
    ms_rest = float((rest_SP**2).sum()) / ((num_seeds - 1) * (num_problems - 1))
    variance: float = max(ms_seeds - ms_rest, 0.0) / (num_seeds * num_problems)
    return variance


def _interval(mean: float, margin: float, num_problems: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share: `margin` on the logit scale, Wilson's if the values have no
    spread.
    """
    if num_problems == 1:
        return 0.0, 1.0
    if margin > 0 and 0 < mean < 1:
        centre, margin = math.log(mean / (1 - mean)), margin / (mean * (1 - mean))
        return _expit(centre - margin), _expit(centre + margin)
    squared = NormalDist().inv_cdf(0.975) ** 2
    centre = (mean + squared / (2 * num_problems)) / (1 + squared / num_problems)
    spread = mean * (1 - mean) / num_problems + squared / (4 * num_problems**2)
    margin = math.sqrt(squared * spread) / (1 + squared / num_problems)
    return max(centre - margin, 0.0), min(centre + margin, 1.0)


def _expit(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))  # tanh saturates, while exp would overflow


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """Returns the quantile of Student's t, for a `probability` above one half and `freedom` of at least 1.

    With t = sqrt(freedom) tan(a) the density becomes a power of the cosine, integrated by Gauss-Legendre and
    inverted by bisection; from 200 degrees on Fisher and Cornish's expansion about the normal (Abramowitz and
    Stegun 26.7.5) is exact to 1e-6. scipy would be a dependency for this one function.
    """
    if not 0.5 < probability < 1 or freedom < 1:
        raise ValueError(f"no quantile at probability {probability} with {freedom} degrees of freedom")
    if freedom >= 200:
        z = NormalDist().inv_cdf(probability)
        first = (z**3 + z) / 4
        second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
        return z + first / freedom + second / freedom**2
    nodes, weights = np.polynomial.legendre.leggauss(100)

    def area(angle: float) -> float:
        return float((np.cos((nodes + 1) * angle / 2) ** (freedom - 1)) @ weights) * angle / 2

    wanted = (2 * probability - 1) * area(math.pi / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) < wanted else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
