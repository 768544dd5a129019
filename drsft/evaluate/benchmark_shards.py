"""Defines the unit of an evaluation's work, a shard of a benchmark sampled with one model, and how many
engines may share a model's shards.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from drsft.config import Benchmark
from drsft.run.models import EvaluatedModel
from drsft.run.plan import Plan
from drsft.run.run import Run

__all__ = ["BenchmarkShard", "benchmark_shards", "missing_shards", "most_engines"]

SHARDS_WORTH_A_LOAD = 2  # sampling two shards takes longer than loading a model


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkShard:
    benchmark: Benchmark
    shard: str
    num_problems: int

    @property
    def name(self) -> str:
        """The name among all shards of all benchmarks, as in "math500/00003"."""
        return f"{self.benchmark.name}/{self.shard}"


def benchmark_shards(run: Run, plans: Mapping[str, Plan]) -> list[BenchmarkShard]:
    """Returns the shards of all benchmarks in the configuration's order; `plans` is by benchmark."""
    return [
        BenchmarkShard(benchmark=benchmark, shard=shard, num_problems=num_problems)
        for benchmark in run.config.evaluate.benchmarks
        for shard, num_problems in sorted(plans[benchmark.name].shards.items())
    ]


def missing_shards(run: Run, model: EvaluatedModel, plans: Mapping[str, Plan]) -> list[BenchmarkShard]:
    """Returns the shards for which the model's samples are not committed yet."""
    done = {one.name: run.samples(model, one).done() for one in run.config.evaluate.benchmarks}
    return [one for one in benchmark_shards(run, plans) if one.shard not in done[one.benchmark.name]]


def most_engines(num_shards: int) -> int:
    """Returns how many engines may have loaded a model of which `num_shards` shards are not begun.

    Each further engine loads the model first, so there must be SHARDS_WORTH_A_LOAD for every engine.
    """
    return max(1, num_shards // SHARDS_WORTH_A_LOAD)
