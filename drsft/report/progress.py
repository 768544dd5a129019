"""How far a run is, as its store tells: what counts is what is committed."""

from collections.abc import Iterator

from drsft.config import RunConfig
from drsft.evaluate.models import evaluated_models
from drsft.gap.scored_texts import scores_of
from drsft.intake.planning import Plan, read_plan
from drsft.report.data import StageDone
from drsft.run import layout
from drsft.run.shards import ShardSet
from drsft.storage import Store

__all__ = ["progress_of"]


def progress_of(config: RunConfig, plan: Plan, store: Store) -> Iterator[StageDone]:
    """Every stage that the configuration asks for, in the order in which they run."""
    for name, shards in (("rewriting", ShardSet(store, layout.RECORDS)), ("gap", scores_of(store))):
        done = len(shards.done() & plan.shards.keys())
        yield StageDone(name=name, unit="shard", num_done=done, num_in_all=len(plan.shards))
    models = evaluated_models(config)
    trained = [store.exists(model.folder.done) for model in models if model.folder is not None]
    yield StageDone(name="training", unit="model", num_done=sum(trained), num_in_all=len(trained))
    num_sampled = num_samples = 0
    for benchmark in config.evaluate.benchmarks:
        of_benchmark = read_plan(store, layout.benchmark(benchmark))
        wanted = of_benchmark.shards.keys() if of_benchmark else {""}
        for model in models:
            sampled = ShardSet(store, layout.samples(config.evaluate, model.name, benchmark)).done()
            num_sampled += len(sampled & wanted)
            num_samples += len(wanted)
    yield StageDone(name="evaluation", unit="shard", num_done=num_sampled, num_in_all=num_samples)
