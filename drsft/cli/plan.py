"""Implements `drsft plan`: estimates a run from the measured rates of another one."""

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from drsft.config import RunConfig
from drsft.evaluate.plans import plan_benchmarks
from drsft.intake.planning import plan_problems, screens_for
from drsft.policy.cache_size import model_shape
from drsft.policy.prompts import model_location, target_prompter
from drsft.run import layout
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.sizing.estimate import GB, Estimate, Prices, StageEstimate, estimate
from drsft.sizing.memory import memory_of, refuse_what_does_not_fit
from drsft.sizing.rates import Rates, measure
from drsft.storage import LocalStore
from drsft.verify.kinds import kinds_of

__all__ = ["show_memory", "show_plan"]


def show_plan(config: RunConfig, calibration: Run, prices: Prices, console: Console) -> Estimate:
    """Prints how long a run would take and what it would cost, with the arithmetic; returns this estimate.

    Rates are measured on `calibration`, a finished run, which also gives the worker counts that are null in
    the configuration. Raises InputError if problems or rates cannot be read.
    """
    rates = measure(calibration)
    resources = config.resources.with_defaults_from(rates.config.resources)
    config = config.model_copy(update={"resources": resources})
    problems, benchmarks = _plans(config)
    found = estimate(
        config,
        rates,
        prices,
        num_problems=problems.num_problems,
        num_benchmark_problems=sum(plan.num_problems for plan in benchmarks),
        num_benchmark_shards=sum(len(plan.shards) for plan in benchmarks),
    )
    lines = [f"rates of {rates.run} ({rates.num_problems:,} problems)", ""]
    lines += [line for one in found.stages for line in _stage_lines(one)]
    lines += _total_lines(found)
    lines += [f"mind: {caution}" for caution in _cautions(config, rates, found)]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return found


def show_memory(config: RunConfig, console: Console, *, card_gb: float | None) -> None:
    """Prints the peak memory of one process of each stage, on the GPU and on the host, and its disk space.

    Raises ConfigError if a stage needs more than `card_gb` (10⁹ bytes) on the GPU; None checks nothing.
    """
    shape = model_shape(model_location(config.target.model))
    headings = ("stage", "processes", "card, GB", "host, GB", "first process, GB", "disk, GB")
    table = Table(
        *headings, title=f"{config.target.model}: {shape.num_parameters / GB:.2f} billion parameters"
    )
    for one in memory_of(config, shape):
        sizes = (one.card, one.host, one.first_host, one.disk)
        table.add_row(one.stage, str(one.num_processes), *(f"{size / GB:,.1f}" for size in sizes))
    console.print(table)
    if card_gb is not None:
        refuse_what_does_not_fit(config, shape, card_bytes=int(card_gb * GB))


def _plans(config: RunConfig) -> tuple[Plan, list[Plan]]:
    """Returns the plan of the problems, and those of the benchmarks, read as the run would read them."""
    prompter = target_prompter(config.target)
    kinds = kinds_of(config.rewrite.verification)
    with tempfile.TemporaryDirectory(prefix="drsft-plan-") as folder:
        store = LocalStore(Path(folder))
        problems = plan_problems(
            config.problems,
            store,
            layout.PROBLEMS,
            prompter=prompter,
            max_model_len=config.target.max_model_len,
            screens=screens_for(config.problems, config.evaluate.benchmarks, kinds=kinds),
            kinds=kinds,
        )
        return problems, list(plan_benchmarks(Run(store, config), prompter).values())


def _stage_lines(one: StageEstimate) -> list[str]:
    load, rate = one.load, one.rate
    tokens = f"{load.units:,} {load.unit} × {rate.tokens_per_unit:,.1f} tokens = {one.tokens:,.0f} tokens"
    between = f"{load.rounds - 1} × {rate.item_s:,.1f} s between + " if load.rounds > 1 else ""
    work = f"{between}{one.tokens:,.0f} / ({load.busy_workers:.3g} × {rate.tokens_per_s:,.0f} tokens/s)"
    hours = f"{one.gpu_hours:,.2f} GPU h, {one.cpu_hours:,.2f} CPU h, {one.gigabytes:,.3f} GB"
    return [
        f"{one.stage}",
        f"  {tokens}",
        f"  {rate.startup_s:,.1f} s to start + {work} = {one.seconds:,.0f} s",
        f"  {hours}",
    ]


def _total_lines(found: Estimate) -> list[str]:
    gpu, cpu = f"{found.gpu_hours:,.2f} GPU h", f"{found.cpu_hours:,.2f} CPU h"
    disk = f"{found.gigabytes:,.3f} GB"
    hours = f"in all {found.seconds:,.0f} s ({found.seconds / 3600:,.2f} h)"
    lines = ["", f"{hours}, of it {found.other_s:,.0f} s beside the stages", f"{gpu}, {cpu}, {disk}"]
    if found.rounds > 1:
        lines.append(f"with {found.rounds} rounds, each at most as long as the first")
    if found.price:
        prices = found.prices
        sums = f"{gpu} × {prices.gpu_hour:g} + {cpu} × {prices.cpu_hour:g} + {disk} × {prices.gb_month:g}"
        lines.append(f"price {sums} for a month = {found.price:,.2f}")
    return lines


def _cautions(config: RunConfig, rates: Rates, found: Estimate) -> list[str]:
    """Returns a line for each way in which the measured run differs from the planned one."""
    cautions = []
    for name in ("target", "rewrite"):
        if getattr(config, name) != getattr(rates.config, name):
            cautions.append(f"{name} differs from that run's, so its tokens and speeds may not hold")
    missing = {"rewrite", "gap", "train", "evaluate"} - {one.stage for one in found.stages}
    if missing:
        cautions.append(f"without {', '.join(sorted(missing))}, which that run did not finish")
    if config.resources.engine_share.num_workers != rates.config.resources.engine_share.num_workers:
        cautions.append("every engine is taken to be as fast as one of that run's")
    return cautions
