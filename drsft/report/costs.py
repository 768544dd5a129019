"""Computes the cost of each stage: tokens, working time and GPU hours, from its commits and trainings.

Only time spent on committed work counts. Engine starts, waiting for machines, and work that was lost with a
worker do not count.
"""

from collections.abc import Iterable, Iterator, Sequence

from drsft.config import RunConfig
from drsft.gap.scored_texts import scores_of
from drsft.records import Phase
from drsft.report.data import Prices, StageCost
from drsft.run.run import Run
from drsft.run.summary import ShardCounts, ShardSummary, Work, WorkSummary, span_s

__all__ = ["prices_of", "rewriting_seconds", "stage_costs", "time_at_work"]


def prices_of(config: RunConfig) -> Prices:
    return Prices(per_gpu_hour=config.report.price_per_gpu_hour, currency=config.report.currency)


def stage_costs(run: Run) -> Iterator[StageCost]:
    """Yields the cost of every stage that has committed work, in the order in which they run."""
    gpus = run.resources.engine_share.gpus
    rewriting = run.summaries()
    scoring = scores_of(run.store).summaries(WorkSummary.from_json)
    evaluating = [summary for model in run.models() for summary in run.evaluation_work(model)]
    if rewriting:
        tokens = sum(summary.counts.num_target_tokens for summary in rewriting)
        yield _cost("rewrite", tokens, [summary.work for summary in rewriting], gpus)
    if scoring:
        yield _cost("gap", _counted_tokens(scoring), [summary.work for summary in scoring], gpus)
    yield from _training(run)
    if evaluating:
        yield _cost("evaluate", _counted_tokens(evaluating), [summary.work for summary in evaluating], gpus)


def rewriting_seconds(summaries: Sequence[ShardSummary]) -> dict[Phase, float]:
    """Returns the workers' seconds by phase: their total time, in proportion to the tokens that it sampled.

    Phases run side by side in one engine, so their times cannot be measured separately. The teacher's phase
    has none. The result is empty if the total is not known.
    """
    tokens = ShardCounts.total(summary.counts for summary in summaries).tokens
    tokens.pop(Phase.TEACHER, None)
    worked_s = sum(time_at_work(_told([summary.work for summary in summaries])).values())
    total = tokens.total()
    return {phase: worked_s * count / total for phase, count in tokens.items()} if total and worked_s else {}


def time_at_work(work: Iterable[Work]) -> dict[str, float]:
    """Returns how many seconds each worker was busy, by its name; overlapping times of shards count once."""
    worked: dict[str, float] = {}
    until: dict[str, float] = {}
    for one in sorted(work, key=lambda one: one.started_at):
        worker = one.worker or ""
        begin = max(one.started_at, until.get(worker, one.started_at))
        worked[worker] = worked.get(worker, 0.0) + max(one.ended_at - begin, 0.0)
        until[worker] = max(one.ended_at, until.get(worker, one.ended_at))
    return worked


def _told(work: Iterable[Work | None]) -> list[Work]:
    """Returns the items of `work` with a known worker, which commits of the first versions do not store."""
    return [one for one in work if one is not None and one.worker is not None]


def _counted_tokens(summaries: Iterable[WorkSummary]) -> int | None:
    counts = [summary.num_tokens for summary in summaries]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _cost(
    name: str, num_tokens: int | None, work: Sequence[Work | None], gpus_per_worker: float
) -> StageCost:
    told = _told(work)
    if len(told) < len(work):
        return StageCost(name=name, num_tokens=num_tokens)
    worked_s = sum(time_at_work(told).values())
    return StageCost(
        name=name,
        num_tokens=num_tokens,
        wall_s=span_s(told),
        worker_s=worked_s,
        gpu_hours=worked_s * gpus_per_worker / 3600,
    )


def _training(run: Run) -> Iterator[StageCost]:
    """Yields the total cost of the finished trainings, which run one after the other."""
    done = run.finished_trainings()
    if done:
        worker_s = sum(one.wall_s * one.num_workers for one in done)
        yield StageCost(
            name="train",
            num_tokens=sum(one.loss_tokens for one in done),
            wall_s=sum(one.wall_s for one in done),
            worker_s=worker_s,
            gpu_hours=worker_s * run.resources.train_share.gpus / 3600,
        )
