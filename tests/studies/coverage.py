"""How often the evaluation's 95 % intervals hold the truth, by simulation.

A problem's difficulty and a training's luck are normal on the logit scale, samples are coin flips, and the
truth is the mean over all problems and trainings that could have been drawn. What is measured are the very
functions that make the tables: drsft.evaluate.estimators and drsft.evaluate.paired.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from drsft.evaluate.estimators import avg_at_k
from drsft.evaluate.intervals import FloatArray
from drsft.evaluate.paired import paired_difference

__all__ = ["DESIGNS", "Coverage", "Design", "measure_coverage", "print_coverage"]

PROBLEMS_SPREAD = 1.5  # standard deviation of the problems' logits
NUM_RESAMPLES = 1000  # of a paired interval here; the tables take ten times as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One model where `gain` is None, else two on the same problems, the first better by `gain` logits."""

    num_problems: int
    num_samples: int
    num_seeds: int = 1
    seeds_spread: float = 0.0  # standard deviation of the trainings' logits
    ability: float = 0.0  # mean logit
    gain: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    design: Design
    truth: float  # accuracy, or the difference of two
    covered: float  # share of the simulations
    mean_width: float


DESIGNS = (
    Design(num_problems=30, num_samples=16),
    Design(num_problems=60, num_samples=4),
    Design(num_problems=300, num_samples=8),
    Design(num_problems=500, num_samples=16, ability=0.9),
    Design(num_problems=60, num_samples=4, ability=-1.4),
    Design(num_problems=30, num_samples=16, ability=-1.9),
    Design(num_problems=60, num_samples=4, num_seeds=3, seeds_spread=0.2),
    Design(num_problems=300, num_samples=8, num_seeds=3, seeds_spread=0.05),
    Design(num_problems=300, num_samples=8, num_seeds=3, seeds_spread=0.2),
    Design(num_problems=300, num_samples=8, num_seeds=3, seeds_spread=0.5),
    Design(num_problems=60, num_samples=4, gain=0.0),
    Design(num_problems=300, num_samples=8, gain=0.3),
    Design(num_problems=60, num_samples=4, num_seeds=3, seeds_spread=0.2, gain=0.0),
    Design(num_problems=300, num_samples=8, num_seeds=3, gain=0.3),
    Design(num_problems=300, num_samples=8, num_seeds=3, seeds_spread=0.05, gain=0.3),
    Design(num_problems=300, num_samples=8, num_seeds=3, seeds_spread=0.2, gain=0.0),
)


def measure_coverage(design: Design, *, num_runs: int, seed: int = 0) -> Coverage:
    """Deterministic in `seed`."""
    rng = np.random.default_rng(seed)
    truth = expected_accuracy(design, design.ability)
    if design.gain is not None:
        truth = expected_accuracy(design, design.ability + design.gain) - truth
    bounds = np.array([_interval(design, rng, run) for run in range(num_runs)])
    low, high = bounds[:, 0], bounds[:, 1]
    return Coverage(
        design=design,
        truth=truth,
        covered=float(((low <= truth) & (truth <= high)).mean()),
        mean_width=float((high - low).mean()),
    )


def expected_accuracy(design: Design, ability: float) -> float:
    """The mean of a logistic of a normal variable, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = math.hypot(PROBLEMS_SPREAD, design.seeds_spread)
    return float((weights @ _logistic(ability + spread * nodes)) / math.sqrt(2 * math.pi))


def _interval(design: Design, rng: np.random.Generator, run: int) -> tuple[float, float]:
    problems_P = rng.normal(0, PROBLEMS_SPREAD, design.num_problems)
    base_SPK = _outcomes(design, design.ability + problems_P, rng)
    if design.gain is None:
        estimate = avg_at_k(base_SPK)
        return estimate.low, estimate.high
    better_SPK = _outcomes(design, design.ability + design.gain + problems_P, rng)
    difference = paired_difference(better_SPK, base_SPK, seed=run, num_resamples=NUM_RESAMPLES)
    return difference.low, difference.high


def _outcomes(design: Design, logits_P: FloatArray, rng: np.random.Generator) -> FloatArray:
    logits_SP = logits_P + rng.normal(0, design.seeds_spread, (design.num_seeds, 1))
    correct_SP = rng.binomial(design.num_samples, _logistic(logits_SP))
    # Which of the samples are right does not matter to a mean over them.
    return (np.arange(design.num_samples) < correct_SP[..., np.newaxis]).astype(np.float64)


def _logistic(logits: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-logits))


def print_coverage(found: Iterable[Coverage], *, num_runs: int) -> None:
    table = Table(
        title=f"95 % intervals in {num_runs:,} simulations each; problems' standard deviation "
        f"{PROBLEMS_SPREAD} logits"
    )
    table.add_column("what")
    heads = ("seeds", "their spread, logits", "problems × samples", "truth, %", "width, points", "covered, %")
    for head in heads:
        table.add_column(head, justify="right")
    for one in found:
        design = one.design
        table.add_row(
            "avg@k" if design.gain is None else "paired difference",
            str(design.num_seeds),
            f"{design.seeds_spread:g}",
            f"{design.num_problems} × {design.num_samples}",
            f"{100 * one.truth:.1f}",
            f"{100 * one.mean_width:.1f}",
            f"{100 * one.covered:.1f}",
        )
    Console(width=110).print(table)


def main(
    runs: Annotated[int, typer.Option(min=100, help="Simulations of each design.")] = 10_000,
) -> None:
    """How often the evaluation's 95 % intervals hold the truth, by simulation; about two minutes."""
    print_coverage([measure_coverage(design, num_runs=runs) for design in DESIGNS], num_runs=runs)


if __name__ == "__main__":
    typer.run(main)
