"""The interval of a mean over problems, or over training seeds and problems.

Axes: S training seeds, P problems.

The problem is the unit that was drawn: K samples of one problem are not K pieces of evidence, so every
interval is clustered by problem. Over seeds the design is crossed (each seed meets each problem), and both
were drawn: the squared standard error of the grand mean is

    (MS_seeds + MS_problems - MS_rest) / (S P)

with the mean squares of a two-way layout without replication (the usual random-effects analysis of variance;
the same three terms as two-way clustering, Cameron, Gelbach and Miller 2011), and Satterthwaite's degrees of
freedom. A crossed bootstrap was the alternative: from three seeds it can only redraw three values, finds two
thirds of their variance, and knows nothing of a t distribution with two degrees of freedom.

The interval is Student's on the logit scale (delta method), so it stays inside 0..1 and keeps its coverage
near the ends: in simulations (tests, and 4,000 runs for each of 13 designs) 94-96 %, down to 92 % where three
seeds disagree far more than the problems' noise. Where every problem came out the same way it is Wilson's,
each problem counted once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "FloatArray", "crossed_mean", "t_quantile"]

FloatArray = NDArray[np.float64]
NO_SPREAD = 1e-20  # rounding leaves this much variance where all problems agree


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
    """The grand mean of cells in 0..1; the module's docstring has the formulas."""
    num_problems, mean = values_SP.shape[1], float(values_SP.mean())
    variance, freedom = _variance(values_SP)
    low, high = _interval(mean, variance, freedom, num_problems)
    return Estimate(
        value=mean,
        standard_error=math.sqrt(variance),
        low=low,
        high=high,
        num_problems=num_problems,
        num_samples=num_samples,
        seed_values=tuple(values_SP.mean(axis=1).tolist()),
    )


def _variance(values_SP: FloatArray) -> tuple[float, float]:
    """Squared standard error of the grand mean, and its degrees of freedom.

    One problem says nothing about others: then the variance is the largest that a share can have.
    """
    num_seeds, num_problems = values_SP.shape
    if num_problems == 1:
        return 0.25, 1.0
    problems_P, seeds_S, mean = values_SP.mean(axis=0), values_SP.mean(axis=1), values_SP.mean()
    ms_problems = num_seeds * float(((problems_P - mean) ** 2).sum()) / (num_problems - 1)
    if num_seeds == 1:
        return ms_problems / num_problems, num_problems - 1.0
    ms_seeds = num_problems * float(((seeds_S - mean) ** 2).sum()) / (num_seeds - 1)
    rest_SP = values_SP - seeds_S[:, np.newaxis] - problems_P + mean
    rest_freedom = (num_seeds - 1) * (num_problems - 1)
    ms_rest = float((rest_SP**2).sum()) / rest_freedom
    # Seeds that happen to agree better than their noise allows must not shrink the problems' part.
    total = ms_problems + max(ms_seeds - ms_rest, 0.0)
    spread = ms_problems**2 / (num_problems - 1)
    if ms_seeds > ms_rest:
        spread += ms_seeds**2 / (num_seeds - 1) + ms_rest**2 / rest_freedom
    freedom = total**2 / spread if spread > 0 else num_problems - 1.0
    return total / (num_seeds * num_problems), max(freedom, 1.0)


def _interval(mean: float, variance: float, freedom: float, num_problems: int) -> tuple[float, float]:
    """95 % interval of a share: Student's on the logit scale, Wilson's when there is no spread to go by."""
    if num_problems == 1:
        return 0.0, 1.0
    if variance > NO_SPREAD and 0 < mean < 1:
        centre = math.log(mean / (1 - mean))
        margin = t_quantile(0.975, freedom) * math.sqrt(variance) / (mean * (1 - mean))
        return _expit(centre - margin), _expit(centre + margin)
    squared = NormalDist().inv_cdf(0.975) ** 2
    centre = (mean + squared / (2 * num_problems)) / (1 + squared / num_problems)
    spread = mean * (1 - mean) / num_problems + squared / (4 * num_problems**2)
    margin = math.sqrt(squared * spread) / (1 + squared / num_problems)
    return max(centre - margin, 0.0), min(centre + margin, 1.0)


def _expit(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))  # tanh saturates where exp would overflow


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t, `probability` above one half, any `freedom` of at least 1.

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
