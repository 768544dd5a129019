"""Reads a run's evaluations from its store: which models have samples, and how they score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drsft.config import Benchmark, RunConfig
from drsft.errors import ConfigError
from drsft.evaluate.contamination import Contamination, read_contamination
from drsft.evaluate.samples import read_samples
from drsft.evaluate.scores import BenchmarkSamples, Score, score
from drsft.run import layout
from drsft.run.models import EvaluatedModel, evaluated_models
from drsft.run.run import Run

__all__ = ["ArmScore", "arm_scores", "pick_models", "samples_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScore:
    """The score of one arm, over all its seeds, on one benchmark.

    A problem of the benchmark is clean when no training problem overlaps with it.
    """

    arm: str
    benchmark: str
    samples: BenchmarkSamples
    score: Score
    overlap: Contamination | None  # None: not measured
    clean_score: Score | None  # on the clean problems; None where it is not known or there is none

    @property
    def num_clean(self) -> int | None:
        if self.overlap is None:
            return None
        return len(set(self.samples.problem_ids) - set(self.overlap.question_ids))


def arm_scores(run: Run) -> Iterator[ArmScore]:
    """Yields scores by benchmark, then arm, in the configuration's order; only arms that are complete."""
    arms: dict[str, list[EvaluatedModel]] = {}
    for model in run.models():
        arms.setdefault(model.arm, []).append(model)
    for benchmark in run.config.evaluate.benchmarks:
        overlap = read_contamination(run, benchmark)
        for arm, models in arms.items():
            samples = samples_of(run, models, benchmark)
            if samples is not None:
                yield _arm_score(arm, benchmark, samples, overlap)


def _arm_score(
    arm: str, benchmark: Benchmark, samples: BenchmarkSamples, overlap: Contamination | None
) -> ArmScore:
    clean = sorted(set(samples.problem_ids) - set(overlap.question_ids)) if overlap else []
    return ArmScore(
        arm=arm,
        benchmark=benchmark.name,
        samples=samples,
        score=score(samples),
        overlap=overlap,
        clean_score=score(samples.only(clean)) if clean else None,
    )


def pick_models(config: RunConfig, name: str) -> list[EvaluatedModel]:
    """Returns the trainings of an arm ("dr+dft"), one training ("dr+dft/seed-0"), or the target ("base").

    Raises ConfigError if the run has no model of this name.
    """
    models = evaluated_models(config)
    picked = [model for model in models if name in (model.arm, model.shown_name)]
    if not picked:
        known = ", ".join(dict.fromkeys([*(m.arm for m in models), *(m.shown_name for m in models)]))
        raise ConfigError(f"no model {name!r} in run {config.run_id}; it has {known}")
    return picked


def samples_of(run: Run, models: Sequence[EvaluatedModel], benchmark: Benchmark) -> BenchmarkSamples | None:
    """Returns the models' samples of a benchmark with their current verdicts; None while any are missing."""
    plan = run.benchmark_plan(benchmark)
    if plan is None:
        return None
    tables = []
    for model in models:
        prefix = layout.samples(run.config.evaluate, model.name, benchmark)
        table = read_samples(run.store, prefix, sorted(plan.shards))
        if table is None:
            return None
        tables.append(table)
    return BenchmarkSamples.from_tables(tables)
