"""What each stage of a run took: tokens, time at work, GPU hours, from its commits and trainings.

Time is counted while workers are at work on something that was committed: starting engines, waiting for
machines and work that was lost with a worker are not in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from drsft.config import RunConfig
from drsft.evaluate.models import evaluated_models
from drsft.gap.scored_texts import scores_of
from drsft.records import Phase
from drsft.report.data import Prices, StageCost
from drsft.run import layout
from drsft.run.shards import ShardSet
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["Span", "prices_of", "rewriting_seconds", "stage_costs", "time_at_work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A worker's time on one shard, in seconds since 1970; spans of one worker may overlap."""

    worker: str
    started_at: float
    ended_at: float


def prices_of(config: RunConfig) -> Prices:
    return Prices(per_gpu_hour=config.report.price_per_gpu_hour, currency=config.report.currency)


def stage_costs(config: RunConfig, store: Store) -> Iterator[StageCost]:
    """Of every stage that has done something, in the order in which they run."""
    resources = config.resources
    rewriting = _summaries(ShardSet(store, layout.RECORDS))
    scoring = _summaries(scores_of(store))
    evaluating = list(
        chain.from_iterable(
            _summaries(ShardSet(store, layout.samples(config.evaluate, model.name, benchmark)))
            for model in evaluated_models(config)
            for benchmark in config.evaluate.benchmarks
        )
    )
    if rewriting:
        tokens = sum(_sampled_tokens(summary) for summary in rewriting)
        yield _of_spans("rewrite", tokens, rewriting, resources.gpus_per_actor)
    if scoring:
        yield _of_spans("gap", _counted_tokens(scoring), scoring, resources.gpus_per_actor)
    yield from _training(config, store)
    if evaluating:
        yield _of_spans("evaluate", _counted_tokens(evaluating), evaluating, resources.gpus_per_actor)


def rewriting_seconds(summaries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The workers' time at work shared out over the cascade's phases by the tokens that each sampled: they
    run side by side in one engine, so nothing finer is to be had."""
    summaries = list(summaries)
    tokens: dict[str, int] = {}
    for summary in summaries:
        for phase, count in summary.get("tokens", {}).items():
            tokens[phase] = tokens.get(phase, 0) + count
    tokens.pop(Phase.TEACHER, None)  # another machine's
    worked_s = sum(time_at_work(_spans(summaries)).values())
    total = sum(tokens.values())
    return {phase: worked_s * count / total for phase, count in tokens.items()} if total and worked_s else {}


def time_at_work(spans: Iterable[Span]) -> dict[str, float]:
    """Seconds by worker; where its spans overlap they count once."""
    worked: dict[str, float] = {}
    until: dict[str, float] = {}
    for span in sorted(spans, key=lambda span: span.started_at):
        begin = max(span.started_at, until.get(span.worker, span.started_at))
        worked[span.worker] = worked.get(span.worker, 0.0) + max(span.ended_at - begin, 0.0)
        until[span.worker] = max(span.ended_at, until.get(span.worker, span.ended_at))
    return worked


def _summaries(shards: ShardSet) -> list[dict[str, Any]]:
    return [commit.summary for commit in shards.commits().values()]


def _spans(summaries: Iterable[Mapping[str, Any]]) -> list[Span]:
    return [
        Span(worker=one["actor"], started_at=one["started_at"], ended_at=one["ended_at"])
        for one in summaries
        if {"actor", "started_at"} <= one.keys()  # not in commits of the first versions
    ]


def _sampled_tokens(summary: Mapping[str, Any]) -> int:
    """By the target: kept and rejected ones, and those of samples that were stopped."""
    sampled = sum(count for phase, count in summary.get("tokens", {}).items() if phase != Phase.TEACHER)
    return int(sampled + summary.get("stopped_tokens", 0))


def _counted_tokens(summaries: Iterable[Mapping[str, Any]]) -> int | None:
    counts = [summary.get("num_tokens") for summary in summaries]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _of_spans(
    name: str, num_tokens: int | None, summaries: list[dict[str, Any]], gpus_per_worker: float
) -> StageCost:
    spans = _spans(summaries)
    if len(spans) < len(summaries):
        return StageCost(name=name, num_tokens=num_tokens)
    worked_s = sum(time_at_work(spans).values())
    return StageCost(
        name=name,
        num_tokens=num_tokens,
        wall_s=max(span.ended_at for span in spans) - min(span.started_at for span in spans),
        worker_s=worked_s,
        gpu_hours=worked_s * gpus_per_worker / 3600,
    )


def _training(config: RunConfig, store: Store) -> Iterator[StageCost]:
    """The sum over the trainings that are done; they run one after the other."""
    keys = [model.folder.done for model in evaluated_models(config) if model.folder is not None]
    done = [read_stored(store, key, dict[str, Any]) for key in keys if store.exists(key)]
    if done:
        worker_s = sum(one["wall_s"] * one["num_workers"] for one in done)
        yield StageCost(
            name="train",
            num_tokens=sum(one["loss_tokens"] for one in done),
            wall_s=sum(one["wall_s"] for one in done),
            worker_s=worker_s,
            gpu_hours=worker_s * config.resources.gpus_per_train_worker / 3600,
        )
