"""Reads from a run's store how much of the run is done; only committed work counts."""

from collections.abc import Iterator, Sequence

from drsft.gap.scored_texts import scores_of
from drsft.report.data import StageDone
from drsft.report.wording import count, joined, plural
from drsft.run.plan import Plan
from drsft.run.run import Run

__all__ = ["progress_of", "unfinished_sentence"]


def progress_of(run: Run, plan: Plan) -> Iterator[StageDone]:
    """Yields the progress of every stage in the configuration, in the order in which they run."""
    for name, shards in (("rewriting", run.records), ("gap", scores_of(run.store))):
        done = len(shards.done() & plan.shards.keys())
        yield StageDone(name=name, unit="shard", num_done=done, num_in_all=len(plan.shards))
    trained = [run.store.exists(folder.done) for _, folder in run.trainings()]
    yield StageDone(name="training", unit="model", num_done=sum(trained), num_in_all=len(trained))
    num_sampled = num_samples = 0
    for benchmark in run.config.evaluate.benchmarks:
        of_benchmark = run.benchmark_plan(benchmark)
        wanted = of_benchmark.shards.keys() if of_benchmark else {""}
        for model in run.models():
            num_sampled += len(run.samples(model, benchmark).done() & wanted)
            num_samples += len(wanted)
    yield StageDone(name="evaluation", unit="shard", num_done=num_sampled, num_in_all=num_samples)


def unfinished_sentence(progress: Sequence[StageDone]) -> str:
    """Says how far an unfinished run is.

    The text is empty for a run that has finished everything in its configuration.
    """
    open_ones = [one for one in progress if one.num_done < one.num_in_all]
    parts = [f"{one.name} {count(one.num_done)} of {plural(one.num_in_all, one.unit)}" for one in open_ones]
    return f"Not finished: {joined(parts)}." if parts else ""
