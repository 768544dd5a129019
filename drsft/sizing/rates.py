"""What a finished run cost for each unit of work, read from its commits and its history.

The unit of rewriting and of the gap report is a problem, of training a text learnt once, of evaluation a
sample. A worker is an engine, a scoring model or a training process.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.evaluate.models import evaluated_models
from drsft.gap.scored_texts import scores_of
from drsft.intake.planning import Plan, read_plan
from drsft.run import layout
from drsft.run.history import StageTime, read_history
from drsft.run.shards import ShardSet
from drsft.storage import Store
from drsft.storage.typed import read_stored
from drsft.train.job import jobs_of

__all__ = ["Rates", "StageRate", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRate:
    """Items are trainings and evaluated models; other stages are one item that takes nothing by itself."""

    startup_s: float  # outside the work: processes, engines, the first model
    tokens_per_unit: float
    tokens_per_s: float  # of one worker
    bytes_per_unit: float = 0.0
    item_s: float = 0.0  # between one and the next
    bytes_per_item: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Stages that the run has not finished are missing."""

    run: str
    config: RunConfig  # what the run was last started with
    num_problems: int
    other_s: float  # before the first stage (imports, planning, connecting to Ray), and the report
    bytes_per_problem: float  # of the problems themselves
    stages: Mapping[str, StageRate]


def measure(store: Store) -> Rates:
    """Raises InputError when the run has no finished stage with its times."""
    config = read_stored(store, layout.CONFIG, RunConfig)
    plan = read_plan(store)
    history = {time.stage: time for time in read_history(store)}  # the newest of each
    if plan is None or "rewrite" not in history:
        raise InputError(
            f"{store.url} has no rewriting with its times; run a small part first, such as: "
            "drsft run CONFIG problems.limit=200"
        )
    found = {
        "rewrite": _rewriting(store, history, plan),
        "gap": _gap(store, history, config, plan),
        "train": _training(store, history, config, plan),
        "evaluate": _evaluation(store, history, config),
    }
    return Rates(
        run=store.url,
        config=config,
        num_problems=plan.num_problems,
        other_s=sum(history[name].wall_s for name in ("start", "report") if name in history),
        bytes_per_problem=_num_bytes(store, layout.PROBLEMS.prefix) / plan.num_problems,
        stages={name: rate for name, rate in found.items() if rate is not None},
    )


def _rewriting(store: Store, history: Mapping[str, StageTime], plan: Plan) -> StageRate | None:
    work = _work(ShardSet(store, layout.RECORDS), history["rewrite"])
    if not work:
        return None
    units = sum(sum(one["sources"].values()) for one in work)
    tokens = sum(sum(one["tokens"].values()) + one["stopped_tokens"] for one in work)
    span_s = _span_s(work)
    return StageRate(
        startup_s=history["rewrite"].wall_s - span_s,
        tokens_per_unit=tokens / units,
        tokens_per_s=tokens / span_s / len({one["actor"] for one in work}),
        bytes_per_unit=_num_bytes(store, layout.RECORDS) / plan.num_problems,
    )


def _gap(store: Store, history: Mapping[str, StageTime], config: RunConfig, plan: Plan) -> StageRate | None:
    work = _work(scores_of(store), history.get("gap"))
    if not work:
        return None
    tokens, span_s = sum(one["num_tokens"] for one in work), _span_s(work)
    return StageRate(
        startup_s=history["gap"].wall_s - span_s,
        tokens_per_unit=tokens / sum(one["num_units"] for one in work),
        tokens_per_s=tokens / span_s / min(config.resources.rewrite_actors, len(work)),
        bytes_per_unit=_num_bytes(store, layout.GAP.prefix) / plan.num_problems,
    )


def _training(
    store: Store, history: Mapping[str, StageTime], config: RunConfig, plan: Plan
) -> StageRate | None:
    """Trainings come one after the other: what lies between two ends and is no step is an item's own."""
    time = history.get("train")
    folders = [layout.training(config.train, job.arm, job.seed) for job in jobs_of(config.train)]
    keys = [folder.done for folder in folders if store.exists(folder.done)]
    done = sorted(
        (read_stored(store, key, dict[str, Any]) for key in keys), key=lambda one: float(one["ended_at"])
    )
    done = [one for one in done if time is not None and one["ended_at"] >= time.began_at]
    if time is None or not done:
        return None
    between = [after["ended_at"] - before["ended_at"] - after["wall_s"] for before, after in pairwise(done)]
    item_s = max(sum(between) / len(between), 0.0) if between else 0.0
    steps_s, tokens = sum(one["wall_s"] for one in done), sum(one["loss_tokens"] for one in done)
    return StageRate(
        startup_s=max(time.wall_s - steps_s - item_s * len(between), 0.0),
        tokens_per_unit=tokens / (len(done) * config.train.num_epochs * plan.num_problems),
        tokens_per_s=tokens / steps_s / done[-1]["num_workers"],
        item_s=item_s,
        bytes_per_item=_num_bytes(store, layout.TRAININGS) / len(keys),
    )


def _evaluation(store: Store, history: Mapping[str, StageTime], config: RunConfig) -> StageRate | None:
    """An engine takes model after model: what lies between them is a model's own."""
    time = history.get("evaluate")
    work = [
        commits
        for model in evaluated_models(config)
        if (commits := [*_of_model(store, config, model.name, time)])
    ]
    if time is None or not work:
        return None
    everything = [one for commits in work for one in commits]
    sampling_s, span_s = sum(map(_span_s, work)), _span_s(everything)
    at_once = min(config.resources.rewrite_actors, len(work))
    rounds = math.ceil(len(work) / at_once)
    between_s = span_s - rounds * sampling_s / len(work)
    units, tokens = (sum(one[name] for one in everything) for name in ("num_units", "num_tokens"))
    return StageRate(
        startup_s=time.wall_s - span_s,
        tokens_per_unit=tokens / units,
        tokens_per_s=tokens / sampling_s,
        bytes_per_unit=_num_bytes(store, layout.EVALUATIONS) / units,
        item_s=max(between_s / (rounds - 1), 0.0) if rounds > 1 else 0.0,
    )


def _of_model(
    store: Store, config: RunConfig, model: str, time: StageTime | None
) -> Iterator[dict[str, Any]]:
    for benchmark in config.evaluate.benchmarks:
        yield from _work(ShardSet(store, layout.samples(config.evaluate, model, benchmark)), time)


def _work(shards: ShardSet, time: StageTime | None) -> list[dict[str, Any]]:
    """The summaries of the shards that were done in the stage's newest start."""
    summaries = (commit.summary for commit in shards.commits().values())
    return [one for one in summaries if time is not None and one.get("started_at", 0) >= time.began_at]


def _span_s(work: Sequence[Mapping[str, Any]]) -> float:
    ended_at = max(float(one["ended_at"]) for one in work)
    return max(ended_at - min(float(one["started_at"]) for one in work), 1e-3)


def _num_bytes(store: Store, prefix: str) -> int:
    num_bytes = 0
    for key in store.keys(prefix):
        with store.open(key) as file:
            num_bytes += file.seek(0, io.SEEK_END)
    return num_bytes
