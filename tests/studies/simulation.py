"""How busy the rewriting keeps many engines, with stragglers and deaths.

Simulated are the engines, their deaths and Ray (tests/studies/simulated_cluster.py), on a virtual clock. Real
are the shards' rewriting with its admission of problems, the cascade, its waves, the choice among samples,
the records as Arrow tables and the commits. To let a million problems pass in minutes, prompts are not
tokenised, verdicts compare two strings and data objects are not kept.

A sample is right with RIGHT_SHARE, guided or not; its length is drawn from SAMPLE_TOKENS. A token takes so
long that an average sample takes `sample_s` seconds.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Annotated, BinaryIO, cast

import typer
from rich.console import Console
from rich.table import Table

from drsft.config import Rewrite
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy
from drsft.process.collector import freeze_heap
from drsft.records import Completion, FinishReason, Outcome, Problem, Verdict
from drsft.rewrite.cascade import Recipe
from drsft.rewrite.shard import ShardRewriter
from drsft.run.tables import problems_to_table
from drsft.storage import table_bytes
from tests.studies.simulated_cluster import ClusterSettings, SimulatedCluster
from tests.support.virtual_time import run_in_virtual_time

__all__ = ["Simulation", "print_simulations", "seconds_per_token", "simulate", "variants"]

RIGHT_SHARE = 0.12  # 1 - 0.88^4 is two in five problems solved alone
# Lengths of samples in tokens, the middles of ten equal parts: 1,588 samples of the embedded model at
# temperature 1, quickstart's first 300 problems.
SAMPLE_TOKENS = (17, 23, 23, 29, 29, 29, 29, 29, 35, 35)
_IDS = tuple(tuple(range(n)) for n in range(max(SAMPLE_TOKENS) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    name: str
    settings: ClusterSettings
    num_problems: int
    hours: float  # of the cluster, until the last commit
    utilisation: float  # mean share of all seats that were taken
    utilisation_tenths: tuple[float, ...]
    tail_share: float  # of the time, after the last shard was handed out
    num_deaths: int
    num_lost_shards: int
    num_tokens: int  # of the committed records
    lost_share: float  # of the sampled tokens
    computed_s: float  # that the simulation itself took


def seconds_per_token(sample_s: float) -> float:
    return sample_s / (sum(SAMPLE_TOKENS) / len(SAMPLE_TOKENS))


def variants(settings: ClusterSettings) -> Iterator[tuple[str, ClusterSettings]]:
    """The asked case, and what each of its troubles costs."""
    yield "as asked", settings
    yield "no slow requests", replace(settings, slow_share=0.0)
    yield "no deaths", replace(settings, seconds_between_deaths=None)
    yield "neither", replace(settings, slow_share=0.0, seconds_between_deaths=None)
    yield "4 shards in flight", replace(settings, shards_in_flight=4)
    yield "64 shards in flight", replace(settings, shards_in_flight=64)


def simulate(
    name: str, settings: ClusterSettings, *, num_problems: int, shard_size: int = 64, seed: int = 0
) -> Simulation:
    started_s = time.perf_counter()
    freeze_heap()
    store = _SimulatedStore(num_problems, shard_size)
    cluster = run_in_virtual_time(_run(settings, store, seed))
    return Simulation(
        name=name,
        settings=settings,
        num_problems=num_problems,
        hours=cluster.ended_at_s / 3600,
        utilisation=sum(cluster.utilisation) / len(cluster.utilisation),
        utilisation_tenths=tuple(cluster.tenths()),
        tail_share=1 - cluster.queue_empty_at_s / cluster.ended_at_s,
        num_deaths=cluster.num_deaths,
        num_lost_shards=cluster.num_lost_shards,
        num_tokens=store.num_committed_tokens,
        lost_share=1 - store.num_committed_tokens / cluster.num_tokens,
        computed_s=time.perf_counter() - started_s,
    )


async def _run(settings: ClusterSettings, store: "_SimulatedStore", seed: int) -> SimulatedCluster:
    stage = {"num_samples": 4, "wave_size": 4, "max_tokens": max(SAMPLE_TOKENS)}
    # The simulated engine ends a wave as one: stopping single samples would only hide their tokens.
    rewrite = {"self_align": stage, "guided": stage, "stop_beaten": False}
    recipe = Recipe(
        rewrite=Rewrite.model_validate(rewrite),
        prompter=cast(Prompter, _UntokenisedPrompter()),
        run_seed=seed,
        max_model_len=512,
    )

    def make_rewriter(policy: Policy) -> ShardRewriter:
        in_flight = settings.problems_in_flight
        return ShardRewriter(store, recipe, policy, _StringVerifier(), problems_in_flight=in_flight)

    cluster = SimulatedCluster(settings, store.shards, _answer, make_rewriter, seed=seed)
    await cluster.run()
    return cluster


def _answer(prompt_ids: Sequence[int], seed: int) -> Completion:
    draw = (seed * 0x9E3779B1) % 2**32 / 2**32  # Fibonacci hashing: cheap and even
    length = (seed * 0x85EBCA6B >> 7) % len(SAMPLE_TOKENS)
    return Completion(
        token_ids=_IDS[SAMPLE_TOKENS[length]],
        text="right" if draw < RIGHT_SHARE else "wrong",
        behaviour_logprobs_T=None,
        finish_reason=FinishReason.STOP,
    )


class _UntokenisedPrompter:
    turn = SimpleNamespace(thought=None)

    def plain(self, problem: Problem) -> tuple[int, ...]:
        return (1,)

    def guided(self, problem: Problem) -> tuple[int, ...]:
        return (2,)

    def solution(self, text: str) -> Completion:
        return Completion(
            token_ids=(3,), text=text, behaviour_logprobs_T=None, finish_reason=FinishReason.STOP
        )


class _StringVerifier:
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        is_right = text == problem.reference
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="equal strings")


class _SimulatedStore:
    """Problems are made when they are read; of what is written the names and the counts are kept."""

    url = "simulated"

    def __init__(self, num_problems: int, shard_size: int) -> None:
        self._num_problems, self._shard_size = num_problems, shard_size
        self._commits: set[str] = set()
        self.num_committed_tokens = 0
        self.shards = [f"{number:06d}" for number in range(-(-num_problems // shard_size))]

    def create(self, key: str, data: bytes) -> bool:
        if key in self._commits:
            return False
        self._commits.add(key)
        self.num_committed_tokens += sum(json.loads(data)["summary"]["tokens"].values())
        return True

    def put(self, key: str, data: bytes) -> None:
        """Not kept."""

    def read(self, key: str) -> bytes:
        start = int(key.rpartition("/")[2].removesuffix(".parquet")) * self._shard_size
        numbers = range(start, min(start + self._shard_size, self._num_problems))
        return table_bytes(problems_to_table([_problem(number) for number in numbers]))

    def open(self, key: str) -> BinaryIO:
        raise NotImplementedError

    def exists(self, key: str) -> bool:
        return key in self._commits

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(self._commits))

    def delete(self, key: str) -> None:
        """Nothing was kept."""

    def sweep(self) -> int:
        return 0

    def within(self, prefix: str) -> "_SimulatedStore":
        return self


def _problem(number: int) -> Problem:
    return Problem(
        problem_id=f"{number:020x}", question="?", demonstration="wrong", reference="right", kind="string"
    )


def print_simulations(simulations: Sequence[Simulation], console: Console | None = None) -> None:
    console, first = console or Console(), simulations[0]
    headings = ("case", "hours", "seats taken", "tail", "deaths", "shards lost", "tokens lost")
    table = Table(*headings, title=_title(simulations[0]))
    for one in simulations:
        table.add_row(
            one.name,
            f"{one.hours:.2f}",
            f"{100 * one.utilisation:.1f} %",
            f"{100 * one.tail_share:.1f} %",
            str(one.num_deaths),
            str(one.num_lost_shards),
            f"{100 * one.lost_share:.2f} %",
        )
    console.print(table)
    tenths = " ".join(f"{100 * share:.0f}" for share in first.utilisation_tenths)
    console.print(f"{first.name}, % of seats taken, in tenths of the time: {tenths}", highlight=False)
    console.print(f"computed in {sum(one.computed_s for one in simulations):.0f} s", highlight=False)


def _title(one: Simulation) -> str:
    settings = one.settings
    return (
        f"{one.num_problems:,} problems, {settings.num_engines} engines of {settings.seats} seats; "
        f"{settings.problems_in_flight} problems of {settings.shards_in_flight} shards in flight on each"
    )


def main(
    problems: Annotated[int, typer.Option(min=1)] = 1_000_000,
    engines: Annotated[int, typer.Option(min=1)] = 64,
    seats: Annotated[int, typer.Option(min=1, help="Samples that an engine serves at once.")] = 256,
    sample_s: Annotated[float, typer.Option(min=0.001, help="Seconds of an average sample.")] = 20.0,
    slow_share: Annotated[float, typer.Option(min=0, max=1, help="Of requests; ten times as slow.")] = 0.01,
    death_every_s: Annotated[
        float, typer.Option(min=1, help="Between the deaths of single engines.")
    ] = 600.0,
    shards_in_flight: Annotated[int, typer.Option(min=1, help="Of an actor.")] = 16,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also without each trouble, and other settings.")
    ] = False,
) -> None:
    """How busy the rewriting keeps many engines, on a virtual clock; a million problems take six minutes."""
    settings = ClusterSettings(
        num_engines=engines,
        seats=seats,
        seconds_per_token=seconds_per_token(sample_s),
        slow_share=slow_share,
        seconds_between_deaths=death_every_s,
        shards_in_flight=shards_in_flight,
    )
    cases = dict(variants(settings)) if compare else {"as asked": settings}
    print_simulations([simulate(name, case, num_problems=problems) for name, case in cases.items()])


if __name__ == "__main__":
    typer.run(main)
