"""Fills the report from what a run has in its store; what a run does not have yet stays empty."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict
from itertools import combinations, islice
from typing import Any

import yaml

from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.evaluate.models import evaluated_models
from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.gap.filtering import FilterCounts
from drsft.gap.report import read_gap_report
from drsft.intake.planning import Plan, read_plan
from drsft.records import Outcome, Phase, Source
from drsft.report.browsed_rows import browsed_rows
from drsft.report.cascade_counts import Cascade, CascadePhase, kept_by_source
from drsft.report.costs import prices_of, rewriting_seconds, stage_costs
from drsft.report.data import (
    ArmDifference,
    ComparisonRow,
    LossCurve,
    ProblemCounts,
    QuarantineReason,
    ReportData,
    TokenProbabilities,
)
from drsft.report.html.page import render
from drsft.report.progress import progress_of
from drsft.report.provenance import environment, fingerprints, versions
from drsft.report.rounds import rounds_shown
from drsft.run import layout
from drsft.run.shards import ShardSet
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["cascade_of", "collect", "write_report"]

COUNTED = (
    "sources", "carried", "solved", "accepted", "samples", "problems",
    "tokens", "verdicts", "refusals", "checks", "pairs",
)  # fmt: skip
_MOMENTS = ("before", "after")
MAX_ROWS = 10_000  # that the page carries


def write_report(data: ReportData, store: Store) -> str:
    """Writes report/index.html and report/summary.json; returns where the page is."""
    store.put(layout.REPORT.page, render(data).encode())
    rows = [asdict(row) for row in data.comparison]
    store.put(layout.REPORT.summary, json.dumps(rows, indent=1).encode())
    return f"{store.url}/{layout.REPORT.page}"


def collect(config: RunConfig, store: Store, *, max_rows: int = MAX_ROWS) -> ReportData:
    """All that the run has so far, and its first rows. Raises InputError when there is no such run."""
    plan = read_plan(store)
    if plan is None:
        raise InputError(f"there is no run {config.run_id} in {config.storage}; start it with drsft run")
    shards = ShardSet(store, layout.RECORDS)
    scores = list(arm_scores(config, store))
    return ReportData(
        run_id=config.run_id,
        name=config.name,
        created=read_stored(store, layout.MANIFEST, dict[str, Any])["created"],
        config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        problems=_problem_counts(plan, store),
        progress=tuple(progress_of(config, plan, store)),
        versions=versions(shards),
        environment=environment(shards),
        fingerprints=fingerprints(config, plan, store),
        cascade=cascade_of(
            [commit.summary for commit in shards.commits().values()],
            beside={Phase.ANALYSIS, Phase.HINTED} if config.rewrite.hinted_beside else set(),
        ),
        costs=tuple(stage_costs(config, store)),
        prices=prices_of(config),
        comparison=tuple(_comparison(config, scores)),
        differences=tuple(_differences(scores)),
        gap=read_gap_report(store),
        filtered=tuple(_filtered(config, store)),
        losses=tuple(_losses(config, store)),
        probabilities=tuple(_probabilities(config, store)),
        rows=tuple(islice(browsed_rows(config, store), max_rows)),
        rounds=tuple(rounds_shown(config, store)),
    )


def _problem_counts(plan: Plan, store: Store) -> ProblemCounts:
    first: dict[str, str] = {}
    for line in store.read(layout.PROBLEMS.quarantine).decode().splitlines():
        row = json.loads(line)
        first.setdefault(row["reason"], f"{row['place']}: {row['detail']}")
    reasons = tuple(
        QuarantineReason(reason=reason, num_rows=count, example=first.get(reason, ""))
        for reason, count in plan.quarantined.items()
    )
    return ProblemCounts(num_read=plan.num_read, num_duplicates=plan.num_duplicates, quarantined=reasons)


def cascade_of(summaries: list[dict[str, Any]], *, beside: Set[Phase]) -> Cascade | None:
    """`beside` are phases whose finds are not kept: what they solved is what they had accepted."""
    if not summaries:
        return None
    totals: dict[str, Counter[str]] = {}
    kept: Counter[str] = Counter()
    for summary in summaries:
        kept.update(kept_by_source(summary))
        for name in COUNTED:
            totals.setdefault(name, Counter()).update(summary.get(name, {}))
    seconds = rewriting_seconds(summaries)
    phases = tuple(
        _cascade_phase(phase, totals, worker_s=seconds.get(phase), is_beside=phase in beside)
        for phase in Phase
        if totals["problems"][phase]
    )
    return Cascade(
        phases=phases,
        sources={source: kept[source.value] for source in Source},
        sampled={source: totals["sources"][source.value] for source in Source},
        num_carried=totals["carried"]["problems"],
        refusals=dict(totals["refusals"]),
        num_steps_checked=totals["checks"]["steps_read"],
        num_steps_failed=totals["checks"]["steps_failed"],
        num_contradicting=totals["checks"]["contradicting"],
        num_pairs=totals["pairs"]["num_pairs"],
        num_pairs_redone=totals["pairs"]["num_redone"],
        num_pairs_apart=totals["pairs"]["num_apart"],
    )


def _cascade_phase(
    phase: Phase, totals: dict[str, Counter[str]], *, worker_s: float | None, is_beside: bool
) -> CascadePhase:
    outcomes: Counter[Outcome] = Counter()
    reasons: Counter[str] = Counter()
    for key, count in totals["verdicts"].items():
        of_phase, outcome, reason = key.split("/", 2)
        if of_phase == phase:
            outcomes[Outcome(outcome)] += count
            if outcome != Outcome.CORRECT:
                reasons[reason] += count
    return CascadePhase(
        phase=phase,
        num_problems=totals["problems"][phase],
        num_solved=totals["accepted" if is_beside else "solved"][phase],
        num_samples=totals["samples"][phase],
        num_tokens=totals["tokens"][phase],
        worker_s=worker_s,
        outcomes=outcomes,
        reasons=dict(reasons.most_common(8)),
        is_beside=is_beside,
    )


def _comparison(config: RunConfig, scores: Sequence[ArmScore]) -> Iterator[ComparisonRow]:
    arms = {arm.name: arm for arm in config.train.arms}
    for one in scores:
        arm, found, mean = arms.get(one.arm), one.score, one.score.avg_at_k
        yield ComparisonRow(
            arm=one.arm,
            data=arm.data if arm else None,
            objective=arm.objective.kind if arm else None,
            benchmark=one.benchmark,
            avg_at_k=mean.value,
            low=mean.low,
            high=mean.high,
            k=mean.num_samples,
            num_problems=mean.num_problems,
            seeds=config.train.seeds if arm else (),
            seed_values=mean.seed_values if arm else (),
            pass_at_k=found.pass_at_k.value,
            pass_k=mean.num_samples,
            truncated_share=found.truncated_share,
            no_answer_share=found.no_answer_share,
            unjudged_share=found.unjudged_share,
            maj_at_k=found.maj_at_k.value if found.maj_at_k else None,
            mean_tokens=found.mean_tokens,
            num_overlapping=one.overlap.num_overlapping if one.overlap else None,
            num_clean=one.num_clean,
            clean_avg_at_k=one.clean_score.avg_at_k.value if one.clean_score else None,
        )


def _differences(scores: Sequence[ArmScore]) -> Iterator[ArmDifference]:
    """Every arm against every other that stands before it, on each benchmark."""
    for first, second in combinations(scores, 2):
        if first.benchmark == second.benchmark:
            difference = compare(second.samples, first.samples)
            if difference is not None:
                yield ArmDifference(
                    arm=second.arm, other=first.arm, benchmark=first.benchmark, difference=difference
                )


def _filtered(config: RunConfig, store: Store) -> Iterator[FilterCounts]:
    for data in sorted({arm.data for arm in config.train.arms}):
        key = layout.packed_rows(config.train, data).filter_counts
        if store.exists(key):
            yield read_stored(store, key, FilterCounts)


def _losses(config: RunConfig, store: Store) -> Iterator[LossCurve]:
    arms = {arm.name: arm for arm in config.train.arms}
    for model in evaluated_models(config):
        if model.seed is not None and model.folder is not None and store.exists(model.folder.metrics):
            rows = map(json.loads, store.read(model.folder.metrics).decode().splitlines())
            points = tuple((int(row["step"]), float(row["ce"])) for row in rows)
            arm = arms[model.arm]
            yield LossCurve(
                arm=arm.name, seed=model.seed, points=points, data=arm.data, objective=arm.objective.kind
            )


def _probabilities(config: RunConfig, store: Store) -> Iterator[TokenProbabilities]:
    """Of every arm with a seed that is trained; counts add up over the seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for model in evaluated_models(config):
        if model.folder is not None and store.exists(model.folder.probabilities):
            noted = read_stored(store, model.folder.probabilities, dict[str, Any])
            if {"before", "after"} <= noted.keys():
                found.setdefault(model.arm, []).append(noted)
    for arm, seeds in found.items():
        before, after = (tuple(map(sum, zip(*(one[at] for one in seeds), strict=True))) for at in _MOMENTS)
        edges = tuple(seeds[0]["log10_edges"])
        yield TokenProbabilities(arm=arm, log10_edges=edges, before=before, after=after)
