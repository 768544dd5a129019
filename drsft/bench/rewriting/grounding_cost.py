"""What the grounding check costs beside the guided stage: the same problems with and without it, in turn.

The problems are those that the model does not solve alone, as in a run: a first pass, which is not measured,
finds them. They are solved with the guide in view, as the configuration says, on the engine in this process.
The settings of the check stay as they are; the other side has `rewrite.grounding: null`. Both sample the
same texts, and a problem draws all its samples at once, so that the check cannot ask for more of them.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from drsft.config import Rewrite, RunConfig
from drsft.errors import ConfigError, InputError
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import target_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Problem, Record, Source
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.shard import freeze_heap
from drsft.verify.pool import VerifierPool

__all__ = ["GroundingRound", "bench_grounding", "print_bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One pass over all problems; the processor time is this process's, which holds the engine."""

    wall_s: float
    cpu_s: float
    num_tokens: int
    num_right: int
    num_scored: int
    num_problems: int
    num_kept: int  # problems with an accepted solution


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingRound:
    without: Side
    checked: Side

    @property
    def wall_share(self) -> float:
        """What the check adds to the stage's time, as a share of it."""
        return self.checked.wall_s / self.without.wall_s - 1

    @property
    def cpu_share(self) -> float:
        return self.checked.cpu_s / self.without.cpu_s - 1


def bench_grounding(config: RunConfig, *, num_rounds: int = 5) -> Iterator[GroundingRound]:
    """Yields one result for each round. Raises ConfigError where the configuration asks for no grounding, and
    InputError where every problem is solved alone.
    """
    if config.rewrite.grounding is None:
        raise ConfigError("rewrite.grounding is null: there is no check whose cost could be measured")
    problems = list(read_problems(config.problems, Intake()))
    prompter = target_prompter(config.target)
    checked = _guided_only(config.rewrite)
    recipes = [
        Recipe(
            rewrite=rewrite,
            prompter=prompter,
            run_seed=config.seed,
            max_model_len=config.target.max_model_len,
        )
        for rewrite in (checked.model_copy(update={"grounding": None}), checked)
    ]
    with (
        VLLMPolicy(config.target, prompter) as policy,
        VerifierPool.from_config(config.rewrite.verification, num_workers=1) as verifier,
    ):
        alone = replace(recipes[1], rewrite=_alone_only(config.rewrite))
        records = _rewritten(problems, alone, policy, verifier)
        unsolved = [record.problem for record in records if record.source is not Source.OWN]
        if not unsolved:
            raise InputError("the model solves every problem alone: there is no guided stage to measure")

        def run(recipe: Recipe) -> Side:
            return _side(unsolved, recipe, policy, verifier)

        for recipe in recipes:
            _side(unsolved[:8], recipe, policy, verifier)  # the first requests warm the engine up
        freeze_heap()
        for number in range(num_rounds):
            order = recipes if number % 2 == 0 else recipes[::-1]
            sides = {recipe.rewrite.grounding is not None: run(recipe) for recipe in order}
            yield GroundingRound(without=sides[False], checked=sides[True])


def _guided_only(rewrite: Rewrite) -> Rewrite:
    guided = rewrite.guided
    return rewrite.model_copy(
        update={
            "self_align": rewrite.self_align.model_copy(update={"num_samples": 0}),
            "guided": guided.model_copy(update={"wave_size": guided.num_samples}),
            "stop_beaten": False,
        }
    )


def _alone_only(rewrite: Rewrite) -> Rewrite:
    return rewrite.model_copy(update={"guided": rewrite.guided.model_copy(update={"num_samples": 0})})


def _rewritten(
    problems: Sequence[Problem], recipe: Recipe, policy: VLLMPolicy, verifier: VerifierPool
) -> list[Record]:
    async def rewrite_all() -> list[Record]:
        return await asyncio.gather(*(rewrite_one(one, policy, verifier, recipe) for one in problems))

    return asyncio.run(rewrite_all())


def _side(problems: Sequence[Problem], recipe: Recipe, policy: VLLMPolicy, verifier: VerifierPool) -> Side:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    records = _rewritten(problems, recipe, policy, verifier)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    attempts = [attempt for record in records for attempt in record.attempts]
    return Side(
        wall_s=wall_s,
        cpu_s=cpu_s,
        num_tokens=sum(record.num_sampled_tokens for record in records),
        num_right=sum(attempt.verdict.is_correct for attempt in attempts),
        num_scored=sum(attempt.grounding is not None for attempt in attempts),
        num_problems=len(problems),
        num_kept=sum(any(one.is_accepted for one in record.attempts) for record in records),
    )


def print_bench(rounds: Sequence[GroundingRound], console: Console | None = None) -> None:
    """Prints the check's cost as a share of the guided stage's time, and what the last round scored."""
    console = console or Console()
    last = rounds[-1].checked
    table = Table("the check's share of the guided stage's", "median", "least", "most")
    for name, shares in (
        ("time", [one.wall_share for one in rounds]),
        ("processor time", [one.cpu_share for one in rounds]),
    ):
        table.add_row(name, *(f"{f(shares):.3f}" for f in (statistics.median, min, max)))
    table.title = f"{len(rounds)} round(s), {last.num_tokens:,} tokens sampled in {last.wall_s:,.1f} s"
    console.print(table)
    console.print(
        f"{last.num_problems:,} problems with {last.num_right:,} right samples, {last.num_scored:,} of them "
        f"scored; {last.num_kept:,} problems keep one",
        highlight=False,
    )
