"""Compares two runs: the arms that both have, paired by problem, and the settings that differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drsft.config import RunConfig
from drsft.errors import InputError
from drsft.evaluate.paired import PairedDifference
from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.records import Source
from drsft.report.collect import collect
from drsft.report.data import ReportData, StageCost
from drsft.report.wording import count, decimal, duration, percent, work_name
from drsft.run.run import Run

__all__ = [
    "ArmOfBoth",
    "Figure",
    "RunComparison",
    "compare_runs",
    "figures_of",
    "settings_that_differ",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmOfBoth:
    """One arm on one benchmark in both runs; `difference` is the second's score minus the first's."""

    arm: str
    benchmark: str
    first: float
    second: float
    difference: PairedDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a table with a value for each run; None if a run does not have it."""

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    first: str  # run ids
    second: str
    arms: tuple[ArmOfBoth, ...]
    only_first: tuple[str, ...]  # arms that the other has not
    only_second: tuple[str, ...]
    figures: tuple[Figure, ...]
    settings: tuple[Figure, ...]  # keys of the configuration that differ


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Returns the comparison of two runs, whose differences are `second` minus `first`.

    Raises InputError if both are the same run.
    """
    if first.url == second.url:
        raise InputError(f"both arguments are the same run, {first.url}; name two different runs")
    data, other = (collect(run, max_rows=0) for run in (first, second))
    scores, other_scores = (_scores(run) for run in (first, second))
    names, other_names = (list(dict.fromkeys(arm for arm, _ in found)) for found in (scores, other_scores))
    return RunComparison(
        first=data.run_id,
        second=other.run_id,
        arms=tuple(_arms(scores, other_scores)),
        only_first=tuple(name for name in names if name not in other_names),
        only_second=tuple(name for name in other_names if name not in names),
        figures=tuple(figures_of(data, other)),
        settings=tuple(settings_that_differ(first.config, second.config)),
    )


def _scores(run: Run) -> dict[tuple[str, str], ArmScore]:
    return {(one.arm, one.benchmark): one for one in arm_scores(run)}


def _arms(
    first: Mapping[tuple[str, str], ArmScore], second: Mapping[tuple[str, str], ArmScore]
) -> Iterator[ArmOfBoth]:
    """Yields the comparison of each arm, on the problems that both evaluations have."""
    for (arm, benchmark), one in first.items():
        other = second.get((arm, benchmark))
        difference = compare(other.samples, one.samples) if other else None
        if other is not None and difference is not None:
            yield ArmOfBoth(
                arm=arm,
                benchmark=benchmark,
                first=one.score.avg_at_k.value,
                second=other.score.avg_at_k.value,
                difference=difference,
            )


def figures_of(first: ReportData, second: ReportData) -> Iterator[Figure]:
    """Yields the figures of both runs side by side, in the first one's order."""
    sides = dict(_figures(first)), dict(_figures(second))
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        yield Figure(name=name, first=sides[0].get(name), second=sides[1].get(name))


def _figures(data: ReportData) -> Iterator[tuple[str, str]]:
    yield "Problems", count(data.problems.num_usable)
    yield "Digest of the problems", data.fingerprints.get("problems", "–")
    if data.cascade is not None and data.cascade.num_kept:
        cascade = data.cascade
        for source in Source:
            if cascade.sources.get(source):
                yield f"Rows kept, {source.value}", percent(cascade.share(source))
        yield "Tokens sampled for a kept row", count(cascade.num_tokens / cascade.num_kept)
    if data.gap is not None:
        for name in ("demonstrations", "kept"):
            group = data.gap.summary.group(name)
            if group is not None:
                yield f"φ̄ of {name}, nats", decimal(group.mean_phi, 3, signed=True)
                yield f"Log-prob of {name}, nats per token", decimal(group.mean_logprob, 3)
    for cost in data.costs:
        yield from _cost(cost)


def _cost(cost: StageCost) -> Iterator[tuple[str, str]]:
    if cost.worker_s is not None:
        yield f"Workers' time, {work_name(cost.name).lower()}", duration(cost.worker_s)
    if cost.gpu_hours:
        yield f"GPU hours, {work_name(cost.name).lower()}", decimal(cost.gpu_hours)


def settings_that_differ(first: RunConfig, second: RunConfig) -> Iterator[Figure]:
    """Yields the settings that differ, by key; an item of a list is named by its index."""
    flat = [dict(_flat("", config.model_dump(mode="json"))) for config in (first, second)]
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        values = [str(settings[key]) if key in settings else None for settings in flat]
        if values[0] != values[1]:
            yield Figure(name=key, first=values[0], second=values[1])


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Flattens nested keys: {"a": {"b": 1}} yields a.b: 1; lists are kept whole unless they hold objects."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = {f"{index}": part for index, part in enumerate(value)}.items()
    else:
        yield prefix, value
        return
    for key, part in parts:
        yield from _flat(f"{prefix}.{key}" if prefix else str(key), part)
