"""Collects the report's data from a run's store; parts that the run does not have yet stay empty."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict
from itertools import combinations, islice

import yaml

from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.gap.filtering import read_filter_counts
from drsft.gap.report import read_gap_report
from drsft.records import Outcome, Phase, Record, Source
from drsft.report.browsed_rows import browsed_rows
from drsft.report.cascade_counts import Cascade, CascadePhase
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
from drsft.report.grounding import grounding_of
from drsft.report.html.page import render
from drsft.report.progress import progress_of
from drsft.report.provenance import environment, fingerprints, versions
from drsft.report.rounds import rounds_shown
from drsft.run import layout
from drsft.run.models import ProbabilityCounts
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.summary import ShardCounts, ShardSummary
from drsft.storage import Store

__all__ = ["cascade_of", "collect", "write_report"]

MAX_ROWS = 10_000  # that the page carries
NUM_EXAMPLES = 3  # of guided solutions, from either end


def write_report(data: ReportData, store: Store) -> str:
    """Writes report/index.html and report/summary.json to the run's store; returns the page's URL."""
    store.put(layout.REPORT.page, render(data).encode())
    rows = [asdict(row) for row in data.comparison]
    store.put(layout.REPORT.summary, json.dumps(rows, indent=1).encode())
    return f"{store.url}/{layout.REPORT.page}"


def collect(run: Run, *, max_rows: int = MAX_ROWS) -> ReportData:
    """Returns the report's data: everything that the run has so far, and its first `max_rows` rows.

    Raises InputError if the run does not exist, or has not read all of its problems.
    """
    config, plan = run.config, run.plan()
    if plan is None:
        reason = "has not read its problems to the end" if run.is_started else "does not exist"
        raise InputError(f"run {config.run_id} in {config.storage} {reason}; start it with drsft run")
    summaries, scores = run.summaries(), list(arm_scores(run))
    records = _first_records(run, max_rows)
    return ReportData(
        run_id=config.run_id,
        name=config.name,
        created=run.manifest().created,
        config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        problems=_problem_counts(run, plan),
        progress=tuple(progress_of(run, plan)),
        versions=versions(summaries),
        environment=environment(summaries),
        fingerprints=fingerprints(run, plan),
        cascade=cascade_of(
            summaries, beside={Phase.ANALYSIS, Phase.HINTED} if config.rewrite.hinted_beside else set()
        ),
        grounding=grounding_of((record for _, record in records), num_examples=NUM_EXAMPLES),
        num_thought_tokens=sum(one.counts.thought_tokens.total() for one in summaries),
        costs=tuple(stage_costs(run)),
        prices=prices_of(config),
        comparison=tuple(_comparison(config, scores)),
        differences=tuple(_differences(scores)),
        gap=read_gap_report(run.store),
        filtered=tuple(read_filter_counts(run)),
        losses=tuple(_losses(run)),
        probabilities=tuple(_probabilities(run)),
        rows=tuple(browsed_rows(run, records)),
        rounds=tuple(rounds_shown(run)),
    )


def _first_records(run: Run, number: int) -> list[tuple[str, Record]]:
    """Returns the first records rewritten so far, in order, without selection."""
    if not run.records.done():
        return []
    return list(islice(run.each_record(), number))


def _problem_counts(run: Run, plan: Plan) -> ProblemCounts:
    first: dict[str, str] = {}
    for row in run.quarantine():
        first.setdefault(row.reason, f"{row.place}: {row.detail}")
    reasons = tuple(
        QuarantineReason(reason=reason, num_rows=count, example=first.get(reason, ""))
        for reason, count in plan.quarantined.items()
    )
    return ProblemCounts(num_read=plan.num_read, num_duplicates=plan.num_duplicates, quarantined=reasons)


def cascade_of(summaries: Sequence[ShardSummary], *, beside: Set[Phase]) -> Cascade | None:
    """Returns the cascade's numbers, summed over the committed shards; None if `summaries` is empty.

    Samples of the phases in `beside` are never kept, so there a problem counts as solved if one was accepted.
    """
    if not summaries:
        return None
    counts = ShardCounts.total(summary.counts for summary in summaries)
    seconds = rewriting_seconds(summaries)
    phases = tuple(
        _cascade_phase(phase, counts, worker_s=seconds.get(phase), is_separate=phase in beside)
        for phase in Phase
        if counts.problems[phase]
    )
    return Cascade(
        phases=phases,
        sources={source: counts.kept[source] for source in Source},
        sampled={source: counts.sources[source] for source in Source},
        num_carried=counts.num_carried_over,
        rejections=dict(counts.rejections),
        num_steps_checked=counts.num_steps_read,
        num_steps_failed=counts.num_steps_failed,
        num_contradicting=counts.num_contradicting,
        num_pairs=counts.num_pairs,
        num_pairs_redone=counts.num_pairs_redone,
        num_pairs_apart=counts.num_pairs_apart,
    )


def _cascade_phase(
    phase: Phase, counts: ShardCounts, *, worker_s: float | None, is_separate: bool
) -> CascadePhase:
    outcomes: Counter[Outcome] = Counter()
    reasons: Counter[str] = Counter()
    for judged, count in counts.verdicts.items():
        if judged.phase is phase:
            outcomes[judged.outcome] += count
            if judged.outcome is not Outcome.CORRECT:
                reasons[judged.reason] += count
    return CascadePhase(
        phase=phase,
        num_problems=counts.problems[phase],
        num_solved=(counts.accepted if is_separate else counts.solved)[phase],
        num_samples=counts.samples[phase],
        num_tokens=counts.tokens[phase],
        worker_s=worker_s,
        outcomes=outcomes,
        reasons=dict(reasons.most_common(8)),
        is_separate=is_separate,
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
    """Yields the difference of every arm to every earlier arm, on each benchmark."""
    for first, second in combinations(scores, 2):
        if first.benchmark == second.benchmark:
            difference = compare(second.samples, first.samples)
            if difference is not None:
                yield ArmDifference(
                    arm=second.arm, other=first.arm, benchmark=first.benchmark, difference=difference
                )


def _losses(run: Run) -> Iterator[LossCurve]:
    arms = {arm.name: arm for arm in run.config.train.arms}
    for model, folder in run.trainings():
        points = run.loss_curve(folder)
        if points and model.seed is not None:
            arm = arms[model.arm]
            yield LossCurve(
                arm=arm.name, seed=model.seed, points=points, data=arm.data, objective=arm.objective.kind
            )


def _probabilities(run: Run) -> Iterator[TokenProbabilities]:
    """Yields the probabilities of every arm with a trained seed; counts are added over the seeds."""
    found: dict[str, list[ProbabilityCounts]] = {}
    for model, folder in run.trainings():
        counts = run.probabilities(folder)
        if counts is not None and counts.before is not None and counts.after is not None:
            found.setdefault(model.arm, []).append(counts)
    for arm, seeds in found.items():
        yield TokenProbabilities(
            arm=arm,
            log10_edges=seeds[0].log10_edges,
            before=_added(one.before or () for one in seeds),
            after=_added(one.after or () for one in seeds),
        )


def _added(counts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Returns the sum of the counts, bin by bin."""
    return tuple(map(sum, zip(*counts, strict=True)))
