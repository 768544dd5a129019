"""Computes seconds, hours, bytes and money from rates and a configuration.

Each estimate keeps the numbers from which it was computed, so that they can be shown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from drsft.config import RunConfig
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
    items: int = 1
    items_at_once: int = 1


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
    def rounds(self) -> int:
        """How many batches of `items_at_once` items run one after the other."""
        return math.ceil(self.load.items / self.load.items_at_once)

    @property
    def seconds(self) -> float:
        """Estimated wall time; workers share an item's tokens evenly."""
        load = self.load
        speed = self.rate.tokens_per_s * load.workers / load.items_at_once
        between_s = (self.rounds - 1) * self.rate.item_s
        return self.rate.startup_s + between_s + self.rounds * self.tokens / load.items / speed

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


def loads_of(config: RunConfig, *, num_problems: int, num_benchmark_problems: int) -> Mapping[str, Load]:
    engines, trainers, train = config.resources.engine_share, config.resources.train_share, config.train
    per_problem = Load(
        units=num_problems,
        unit="problems",
        workers=engines.num_workers,
        gpus_per_worker=engines.gpus,
        cpus_per_worker=engines.cpus,
    )
    num_jobs, num_models = len(train.arms) * len(train.seeds), len(evaluated_models(config))
    at_once = min(engines.num_workers, num_models)
    return {
        "rewrite": per_problem,
        "gap": per_problem,
        "train": Load(
            units=num_jobs * train.num_epochs * num_problems,
            unit="texts",
            workers=trainers.num_workers,
            gpus_per_worker=trainers.gpus,
            cpus_per_worker=trainers.cpus,
            items=num_jobs,
        ),
        "evaluate": replace(
            per_problem,
            units=num_models * num_benchmark_problems * config.evaluate.num_samples,
            unit="samples",
            workers=at_once,
            items=num_models,
            items_at_once=at_once,
        ),
    }


def estimate(
    config: RunConfig, rates: Rates, prices: Prices, *, num_problems: int, num_benchmark_problems: int
) -> Estimate:
    """Returns the estimate of every stage in `rates`."""
    loads = loads_of(config, num_problems=num_problems, num_benchmark_problems=num_benchmark_problems)
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
