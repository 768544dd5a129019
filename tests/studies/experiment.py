"""What a matrix of arms says about the papers' claims: the grid of scores, paired differences, steadiness.

Reads what `drsft run` left behind and prints Markdown; nothing is trained or sampled.
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from drsft.config import Arm, Benchmark, RunConfig
from drsft.config.configfile import load_config
from drsft.errors import InputError
from drsft.evaluate.paired import PairedDifference
from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.records import Outcome
from drsft.run import layout
from drsft.run.models import EvaluatedModel
from drsft.run.run import Run, open_run
from drsft.run.shards import ShardSet
from drsft.verify.steps.check import check_steps

__all__ = [
    "Contrast",
    "Soundness",
    "Steadiness",
    "contrasts",
    "describe_experiment",
    "markdown_table",
    "score_cell",
    "soundness",
    "steadiness",
]

# What is said to be better, and than what; each is looked at with all else equal.
DATA_CLAIMS = (("rewritten", "expert"), ("self_only", "expert"), ("hinted", "expert"),
               ("rewritten", "self_only"), ("hinted", "self_only"), ("hinted", "rewritten"))  # fmt: skip
OBJECTIVE_CLAIMS = (("dft", "sft"), ("idft", "sft"), ("iw_sft", "sft"), ("idft", "dft"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two arms that differ in the data or in the objective alone, or an arm and base; paired by problem."""

    claim: str  # "rewritten over expert": the first minus the second
    given: str  # what both share: an objective or a data view
    difference: PairedDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """How much an arm's trainings differ, and how rough their steps are."""

    num_steps: float  # mean over seeds
    seeds_deviation: float  # of avg@k, in 0..1, with S - 1
    gradient_spikes: float  # the largest norm over the median norm, before clipping; mean over seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """Right samples of an arm, over its seeds, by what their equations show."""

    num_right: int
    num_holding: int  # at least one equation is read, and all hold
    num_failing: int  # one is false


def contrasts(config: RunConfig, scores: Sequence[ArmScore]) -> Iterator[Contrast]:
    """Every claim with every arm that it can be looked at with; `scores` are of one benchmark."""
    scored = {one.arm: one for one in scores}
    arms: dict[tuple[str, str], ArmScore] = {}
    for arm in config.train.arms:
        if arm.name in scored:
            arms[arm.data, arm.objective.kind] = scored[arm.name]
    kinds = list(dict.fromkeys(kind for _, kind in arms))
    views = list(dict.fromkeys(data for data, _ in arms))
    pairs = [((a, kind), (b, kind), f"{a} over {b}", kind) for a, b in DATA_CLAIMS for kind in kinds]
    pairs += [((data, a), (data, b), f"{a} over {b}", data) for a, b in OBJECTIVE_CLAIMS for data in views]
    pairs += [
        ((data, kind), (layout.BASE, ""), f"{data} over {layout.BASE}", kind)
        for data in views
        for kind in kinds
    ]
    if layout.BASE in scored:
        arms[layout.BASE, ""] = scored[layout.BASE]
    for first, second, claim, given in pairs:
        if first in arms and second in arms:
            difference = compare(arms[first].samples, arms[second].samples)
            if difference is not None:
                yield Contrast(claim=claim, given=given, difference=difference)


def steadiness(run: Run, arm: Arm, score: ArmScore) -> Steadiness:
    """Raises StorageError where the arm is not trained."""
    logs = [
        [json.loads(line) for line in run.store.read(folder.metrics).decode().splitlines()]
        for folder in (layout.training(run.config.train, arm, seed) for seed in run.config.train.seeds)
    ]
    norms = [[row["grad_norm"] for row in log] for log in logs]
    means = score.samples.correct_SPK.mean(axis=(1, 2)).tolist()
    return Steadiness(
        num_steps=statistics.mean(map(len, logs)),
        seeds_deviation=statistics.stdev(means) if len(means) > 1 else 0.0,
        gradient_spikes=statistics.mean(max(one) / statistics.median(one) for one in norms),
    )


def soundness(run: Run, benchmark: Benchmark, arm: str) -> Soundness:
    """Reads the equations of the right samples of an arm, or of base, over all its seeds."""
    reports = [
        check_steps(row["text"])
        for model in run.models()
        if model.arm == arm
        for row in _right_samples(run, model, benchmark)
    ]
    return Soundness(
        num_right=len(reports),
        num_holding=sum(report.num_read > 0 and report.holds for report in reports),
        num_failing=sum(not report.holds for report in reports),
    )


def _right_samples(run: Run, model: EvaluatedModel, benchmark: Benchmark) -> Iterator[dict[str, str]]:
    samples = ShardSet(run.store, layout.samples(run.config.evaluate, model.name, benchmark))
    for shard in sorted(samples.done()):
        for row in samples.table(shard).select(["text", "outcome"]).to_pylist():
            if row["outcome"] == Outcome.CORRECT.value:
                yield row


def describe_experiment(run: Run) -> str:
    """Markdown tables of every benchmark of the run. Raises InputError where no arm is evaluated."""
    config, scores = run.config, list(arm_scores(run))
    if not scores:
        raise InputError(f"run {config.run_id} has no evaluated arm; start it with drsft run")
    parts = []
    for name in dict.fromkeys(one.benchmark for one in scores):
        of_benchmark = [one for one in scores if one.benchmark == name]
        seeds, k = len(config.train.seeds), config.evaluate.num_samples
        parts.append(f"## {name}: avg@{k}, per cent, with the 95 % interval over {seeds} seeds and problems")
        parts += [_grid(config, of_benchmark), _contrast_table(config, of_benchmark)]
        parts.append(_steadiness_table(run, of_benchmark))
        parts.append(_soundness_table(run, name, of_benchmark))
    return "\n\n".join(parts)


def _grid(config: RunConfig, scores: Sequence[ArmScore]) -> str:
    cells = {one.arm: score_cell(one) for one in scores}
    kinds = list(dict.fromkeys(arm.objective.kind for arm in config.train.arms))
    rows: dict[str, dict[str, str]] = {}
    for arm in config.train.arms:
        rows.setdefault(arm.data, {})[arm.objective.kind] = cells.get(arm.name, "")
    lines = [[data, *(row.get(kind, "") for kind in kinds)] for data, row in rows.items()]
    base = [f"The target as it was: {cells[layout.BASE]}."] if layout.BASE in cells else []
    return "\n\n".join([*base, markdown_table(["data", *kinds], lines)])


def score_cell(one: ArmScore) -> str:
    """Returns avg@k in per cent, with its 95 % interval."""
    mean = one.score.avg_at_k
    return f"{100 * mean.value:.1f} ({100 * mean.low:.1f} to {100 * mean.high:.1f})"


def _contrast_table(config: RunConfig, scores: Sequence[ArmScore]) -> str:
    lines = []
    for one in contrasts(config, scores):
        found = one.difference
        clear = " *" if found.is_clear else ""
        bounds = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        lines.append([one.claim, one.given, f"{100 * found.value:+.1f}{clear}", bounds])
    return markdown_table(["claim", "with", "points", "95 % interval"], lines)


def _steadiness_table(run: Run, scores: Sequence[ArmScore]) -> str:
    scored = {one.arm: one for one in scores}
    lines = []
    for arm in run.config.train.arms:
        if (one := scored.get(arm.name)) is not None:
            found = steadiness(run, arm, one)
            shares = (found.seeds_deviation, one.score.pass_at_k.value, one.score.truncated_share)
            deviation, passed, cut_off = (f"{100 * share:.1f}" for share in shares)
            seeds = ", ".join(f"{100 * value:.1f}" for value in one.score.avg_at_k.seed_values)
            spikes, tokens = f"{found.gradient_spikes:.1f}", f"{one.score.mean_tokens:.0f}"
            lines.append(
                [arm.name, f"{found.num_steps:.0f}", seeds, deviation, spikes, passed, cut_off, tokens]
            )
    head = ["arm", "steps", "seeds", "s.d.", "largest / median gradient norm", "pass@k", "cut off", "tokens"]
    return markdown_table(head, lines)


def _soundness_table(run: Run, name: str, scores: Sequence[ArmScore]) -> str:
    benchmark = next(one for one in run.config.evaluate.benchmarks if one.name == name)
    lines = []
    for one in scores:
        found = soundness(run, benchmark, one.arm)
        shares = (found.num_holding / max(found.num_right, 1), found.num_failing / max(found.num_right, 1))
        lines.append([one.arm, f"{found.num_right:,}", *(f"{100 * share:.1f}" for share in shares)])
    head = ["arm", "right samples", "with equations that hold, %", "with a false equation, %"]
    return markdown_table(head, lines)


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns the lines below their head, as a table of Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Of a run that trains a matrix of arms.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
) -> None:
    """What a matrix of arms says about the papers' claims, as Markdown; trains and samples nothing."""
    run_config = load_config(config, overrides or ())
    print(describe_experiment(open_run(run_config)))


if __name__ == "__main__":
    typer.run(main)
