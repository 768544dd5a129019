"""Measures what a finished run cost for each unit of work, from its commits and its history.

The unit of rewriting and of the gap report is a problem, of training a text in one epoch, of evaluation a
sample. A worker is an engine, a scoring model or a training process.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.gap.scored_texts import scores_of
from drsft.run import layout
from drsft.run.history import StageTime
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.summary import ShardCounts, ShardSummary, WorkSummary, span_s

__all__ = ["Rates", "StageRate", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRate:
    """The cost of a stage per unit of work, and its fixed cost per item.

    The module's docstring says what a unit is. An item is a training or an evaluated model; any other stage
    is one item, whose `item_s` is 0.
    """

    startup_s: float  # outside the work: processes, engines, the first model
    tokens_per_unit: float
    tokens_per_s: float  # of one worker
    bytes_per_unit: float = 0.0
    item_s: float = 0.0  # between one and the next
    bytes_per_item: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of a run's stages; unfinished stages are missing."""

    run: str
    config: RunConfig  # what the run was last started with
    num_problems: int
    other_s: float  # before the first stage (imports, planning, connecting to Ray), and the report
    bytes_per_problem: float  # of the problems themselves
    stages: Mapping[str, StageRate]


def measure(run: Run) -> Rates:
    """Returns the rates of a run's stages.

    Raises InputError if the run has not finished its rewriting, or if no shard says when it was rewritten.
    """
    plan = run.plan()
    history = {time.stage: time for time in run.history()}  # the newest of each
    if plan is None or "rewrite" not in history:
        raise InputError(
            f"{run.url} has no finished rewriting to take rates from; run a small part first: "
            "drsft run CONFIG problems.limit=200"
        )
    rewriting = _rewriting(run, history["rewrite"], plan)
    if rewriting is None:
        raise InputError(
            f"{run.url}: no committed shard says when the newest start rewrote it, so there are no rates of "
            "rewriting; take them from another run, such as a small part: drsft run CONFIG problems.limit=200"
        )
    found = {
        "rewrite": rewriting,
        "gap": _gap(run, history.get("gap"), plan),
        "train": _training(run, history.get("train"), plan),
        "evaluate": _evaluation(run, history.get("evaluate")),
    }
    return Rates(
        run=run.url,
        config=run.config.model_copy(update={"resources": run.resources}),
        num_problems=plan.num_problems,
        other_s=sum(history[name].wall_s for name in ("start", "report") if name in history),
        bytes_per_problem=run.num_bytes(layout.PROBLEMS.prefix) / plan.num_problems,
        stages={name: rate for name, rate in found.items() if rate is not None},
    )


def _rewriting(run: Run, time: StageTime, plan: Plan) -> StageRate | None:
    summaries = _of_newest_start(run.summaries(), time)
    if not summaries:
        return None
    counts = ShardCounts.total(summary.counts for summary in summaries)
    tokens, worked_s = counts.tokens.total() + counts.num_stopped_tokens, _worked_s(summaries)
    return StageRate(
        startup_s=time.wall_s - worked_s,
        tokens_per_unit=tokens / counts.sources.total(),
        tokens_per_s=tokens / worked_s / len({one.work.worker for one in summaries if one.work}),
        bytes_per_unit=run.num_bytes(layout.RECORDS) / plan.num_problems,
    )


def _gap(run: Run, time: StageTime | None, plan: Plan) -> StageRate | None:
    summaries = _of_newest_start(scores_of(run.store).summaries(WorkSummary.from_json), time)
    if time is None or not summaries:
        return None
    units, tokens = _units_and_tokens(summaries)
    worked_s = _worked_s(summaries)
    return StageRate(
        startup_s=time.wall_s - worked_s,
        tokens_per_unit=tokens / units,
        tokens_per_s=tokens / worked_s / min(run.resources.engine_share.num_workers, len(summaries)),
        bytes_per_unit=run.num_bytes(layout.GAP.prefix) / plan.num_problems,
    )


def _training(run: Run, time: StageTime | None, plan: Plan) -> StageRate | None:
    """Returns the rate of training.

    Trainings run one after the other; time between two of them that is not spent in steps counts per item.
    """
    finished = run.finished_trainings()
    ends = [(one.ended_at, one) for one in finished if one.ended_at is not None]
    done = [
        (ended_at, one)
        for ended_at, one in sorted(ends, key=lambda end: end[0])
        if time is not None and ended_at >= time.began_at
    ]
    if time is None or not done:
        return None
    between = [after_s - before_s - after.wall_s for (before_s, _), (after_s, after) in pairwise(done)]
    item_s = max(sum(between) / len(between), 0.0) if between else 0.0
    steps_s = sum(one.wall_s for _, one in done)
    tokens = sum(one.loss_tokens for _, one in done)
    return StageRate(
        startup_s=max(time.wall_s - steps_s - item_s * len(between), 0.0),
        tokens_per_unit=tokens / (len(done) * run.config.train.num_epochs * plan.num_problems),
        tokens_per_s=tokens / steps_s / done[-1][1].num_workers,
        item_s=item_s,
        bytes_per_item=run.num_bytes(layout.TRAININGS) / len(finished),
    )


def _evaluation(run: Run, time: StageTime | None) -> StageRate | None:
    """Returns the rate of evaluation.

    An engine's time with a model is sampling; that between two of its models counts per item.
    """
    of_engine: dict[str, dict[str, list[WorkSummary]]] = {}  # by engine, then model
    for model in run.models():
        for one in _of_newest_start(run.evaluation_work(model), time):
            engine = (one.work and one.work.worker) or model.name  # the first versions named no engine
            of_engine.setdefault(engine, {}).setdefault(model.name, []).append(one)
    if time is None or not of_engine:
        return None
    everything = [one for by_model in of_engine.values() for work in by_model.values() for one in work]
    sampling_s = sum(_worked_s(work) for by_model in of_engine.values() for work in by_model.values())
    between = [gap_s for by_model in of_engine.values() for gap_s in _between(by_model.values())]
    units, tokens = _units_and_tokens(everything)
    return StageRate(
        startup_s=time.wall_s - _worked_s(everything),
        tokens_per_unit=tokens / units,
        tokens_per_s=tokens / sampling_s,
        bytes_per_unit=run.num_bytes(layout.EVALUATIONS) / units,
        item_s=sum(between) / len(between) if between else 0.0,
    )


def _between(by_model: Iterable[Sequence[WorkSummary]]) -> list[float]:
    """Returns the seconds between an engine's last sample of one model and its first of the next."""
    works = [[one.work for one in of_model if one.work is not None] for of_model in by_model]
    spans = sorted(
        (min(one.started_at for one in of_model), max(one.ended_at for one in of_model)) for of_model in works
    )
    return [max(after[0] - before[1], 0.0) for before, after in pairwise(spans)]


Summary = TypeVar("Summary", ShardSummary, WorkSummary)


def _of_newest_start(summaries: Sequence[Summary], time: StageTime | None) -> list[Summary]:
    """Returns the summaries of the shards that were done in the stage's newest start."""
    if time is None:
        return []
    return [one for one in summaries if one.work is not None and one.work.started_at >= time.began_at]


def _units_and_tokens(summaries: Sequence[WorkSummary]) -> tuple[int, int]:
    return sum(one.num_units or 0 for one in summaries), sum(one.num_tokens or 0 for one in summaries)


def _worked_s(summaries: Sequence[ShardSummary] | Sequence[WorkSummary]) -> float:
    return max(span_s(one.work for one in summaries), 1e-3)
