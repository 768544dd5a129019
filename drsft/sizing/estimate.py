"""Computes seconds, hours, bytes and money from rates and a configuration.

Each estimate keeps the numbers from which it was computed, so that they can be shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from drsft.config import RunConfig
from drsft.evaluate.benchmark_shards import most_engines
from drsft.run.models import evaluated_models
from drsft.sizing.rates import Rates, StageRate

__all__ = ["GB", "Estimate", "Load", "Prices", "StageEstimate", "estimate", "loads_of"]

GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The amount of work that a configuration gives a stage, and the workers that do it."""

    units: int
    unit: str
    workers: int
    gpus_per_worker: float
    cpus_per_worker: float
    busy_workers: float  # on average
    items: int = 1  # trainings or evaluated models
    rounds: int = 1  # the items that a worker has, one after the other


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in one currency."""

    gpu_hour: float = 0.0
    cpu_hour: float = 0.0
    gb_month: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEstimate:
    stage: str
    load: Load
    rate: StageRate

    @property
    def tokens(self) -> float:
        return self.load.units * self.rate.tokens_per_unit

    @property
    def seconds(self) -> float:
        """Estimated wall time."""
        load, rate = self.load, self.rate
        between_s = (load.rounds - 1) * rate.item_s
        return rate.startup_s + between_s + self.tokens / (load.busy_workers * rate.tokens_per_s)

    @property
    def gpu_hours(self) -> float:
        return self.seconds / 3600 * self.load.workers * self.load.gpus_per_worker

    @property
    def cpu_hours(self) -> float:
        return self.seconds / 3600 * self.load.workers * self.load.cpus_per_worker

    @property
    def gigabytes(self) -> float:
        load, rate = self.load, self.rate
        return (load.units * rate.bytes_per_unit + load.items * rate.bytes_per_item) / GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    stages: tuple[StageEstimate, ...]
    other_s: float
    problems_gigabytes: float
    rounds: int  # later rounds cost at most as much as the first
    prices: Prices

    @property
    def seconds(self) -> float:
        return self.other_s + self.rounds * sum(one.seconds for one in self.stages)

    @property
    def gpu_hours(self) -> float:
        return self.rounds * sum(one.gpu_hours for one in self.stages)

    @property
    def cpu_hours(self) -> float:
        return self.rounds * sum(one.cpu_hours for one in self.stages)

    @property
    def gigabytes(self) -> float:
        return self.problems_gigabytes + self.rounds * sum(one.gigabytes for one in self.stages)

    @property
    def price(self) -> float:
        """The price of the machine hours and of one month of storage."""
        return (
            self.gpu_hours * self.prices.gpu_hour
            + self.cpu_hours * self.prices.cpu_hour
            + self.gigabytes * self.prices.gb_month
        )


def loads_of(
    config: RunConfig, *, num_problems: int, num_benchmark_problems: int, num_benchmark_shards: int
) -> Mapping[str, Load]:
    engines, trainers, train = config.resources.engine_share, config.resources.train_share, config.train
    per_problem = Load(
        units=num_problems,
        unit="problems",
        workers=engines.num_workers,
        gpus_per_worker=engines.gpus,
        cpus_per_worker=engines.cpus,
        busy_workers=engines.num_workers,
    )
    num_jobs, num_models = len(train.arms) * len(train.seeds), len(evaluated_models(config))
    sampling = replace(
        per_problem,
        units=num_models * num_benchmark_problems * config.evaluate.num_samples,
        unit="samples",
        items=num_models,
    )
    return {
        "rewrite": per_problem,
        "gap": per_problem,
        "train": Load(
            units=num_jobs * train.num_epochs * num_problems,
            unit="texts",
            workers=trainers.num_workers,
            gpus_per_worker=trainers.gpus,
            cpus_per_worker=trainers.cpus,
            busy_workers=trainers.num_workers,
            items=num_jobs,
            rounds=num_jobs,
        ),
        "evaluate": _divided(sampling, most_engines=most_engines(num_benchmark_shards)),
    }


def _divided(sampling: Load, *, most_engines: int) -> Load:
    """Returns the load of evaluation as engines divide its models: each has as many models of its own as any
    other, and all share the models that are left, at most `most_engines` each.

    Where the shared models have unequal numbers of engines, engines that finish first help with another one.
    """
    num_models = sampling.items
    workers = min(sampling.workers, num_models * most_engines)
    if not workers:
        return sampling
    num_own, num_shared = divmod(num_models, workers)
    sharing = min(workers, num_shared * most_engines)
    is_uneven = num_shared > 0 and sharing % num_shared > 0
    return replace(
        sampling,
        workers=workers,
        busy_workers=num_models / (num_own + (num_shared / sharing if num_shared else 0)),
        rounds=num_own + (num_shared > 0) + is_uneven,
    )


def estimate(
    config: RunConfig,
    rates: Rates,
    prices: Prices,
    *,
    num_problems: int,
    num_benchmark_problems: int,
    num_benchmark_shards: int,
) -> Estimate:
    """Returns the estimate of every stage in `rates`."""
    loads = loads_of(
        config,
        num_problems=num_problems,
        num_benchmark_problems=num_benchmark_problems,
        num_benchmark_shards=num_benchmark_shards,
    )
    stages = [
        StageEstimate(stage=name, load=load, rate=rates.stages[name])
        for name, load in loads.items()
        if name in rates.stages and load.units
    ]
    return Estimate(
        stages=tuple(stages),
        other_s=rates.other_s,
        problems_gigabytes=num_problems * rates.bytes_per_problem / GB,
        rounds=config.rounds.count,
        prices=prices,
    )
