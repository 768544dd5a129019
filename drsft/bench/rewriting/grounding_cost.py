"""Measures what the grounding check costs, relative to the guided phase that it belongs to.

The problems are those that the model does not solve alone, as in a run. A first pass, which is not measured,
finds them, and rewrites them with the configured check to see which solutions it scores. Then each round
solves the problems with their guide but without the check, and afterwards scores those solutions and the
experts' texts, all at once. Timing two passes, with and without the check, would not work: their difference
is smaller than the spread of either.
"""

import asyncio
import statistics
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from drsft.config import Grounding, Rewrite, RunConfig
from drsft.errors import ConfigError, InputError
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.protocol import Policy, ScoringPolicy
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.process.collector import freeze_heap
from drsft.records import Problem, Record, Source
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.grounding import GroundingCheck
from drsft.verify.pool import VerifierPool
from drsft.verify.protocol import Verifier

__all__ = ["GroundingRound", "GuidedWork", "bench_grounding", "print_bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedWork:
    """The problems that reach the guided phase, and the texts that its grounding check scores."""

    num_problems: int
    num_samples: int
    num_tokens: int  # sampled
    num_right: int
    num_scored: int  # samples; equal texts of a problem are scored once
    num_experts: int  # problems whose expert's text is scored, too
    num_kept: int  # problems with an accepted solution


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingRound:
    """One round's wall-clock seconds (`_s`) and processor seconds (`_cpu_s`) of the guided phase and of its
    check.

    Processor seconds are those of this process, in which the engine runs.
    """

    work: GuidedWork  # of every round
    guided_s: float
    guided_cpu_s: float
    check_s: float
    check_cpu_s: float

    @property
    def share(self) -> float:
        """The check's time as a share of the guided phase's."""
        return self.check_s / self.guided_s

    @property
    def cpu_share(self) -> float:
        return self.check_cpu_s / self.guided_cpu_s


def bench_grounding(config: RunConfig, *, num_rounds: int = 5) -> Iterator[GroundingRound]:
    """Yields for each round the times of the guided phase and of its grounding check.

    Raises ConfigError if the configuration has no grounding check, and InputError if the model solves every
    problem without a guide.
    """
    settings = config.rewrite.grounding
    if settings is None:
        raise ConfigError(
            "rewrite.grounding is null, so there is no check to measure; remove this setting, or set "
            "rewrite.grounding={} if a preset sets it to null"
        )
    problems = list(read_problems(config.problems, Intake()))
    prompter = target_prompter(config.target)
    recipe = Recipe(
        rewrite=config.rewrite,
        prompter=prompter,
        run_seed=config.seed,
        max_model_len=config.target.max_model_len,
    )
    alone, guided = _without(config.rewrite, "guided"), _without(config.rewrite, "self_align")
    unchecked = guided.model_copy(update={"grounding": None})
    with VerifierPool.from_config(config.rewrite.verification, num_workers=1) as verifier:
        rewritten = partial(_rewritten, recipe=recipe, verifier=verifier)
        with VLLMPolicy(config.target, prompter) as policy:
            tried = asyncio.run(rewritten(problems, alone, policy=policy))
            unsolved = [record.problem for record in tried if record.source is not Source.OWN]
            if not unsolved:
                raise InputError(
                    "the model solves every problem alone, so no guided stage can be measured; "
                    "give harder problems"
                )
            records = asyncio.run(rewritten(unsolved, guided, policy=policy))
        for _ in range(num_rounds):
            with VLLMPolicy(config.target, prompter) as policy:  # whose cache holds no text that is scored
                asyncio.run(rewritten(unsolved, alone, policy=policy))  # as in a run: it holds plain prompts
                freeze_heap()
                guided_s, guided_cpu_s = _timed(rewritten(unsolved, unchecked, policy=policy))
                check_s, check_cpu_s = _timed(_check_all(records, policy, prompter, settings))
            yield GroundingRound(
                work=_work(records),
                guided_s=guided_s,
                guided_cpu_s=guided_cpu_s,
                check_s=check_s,
                check_cpu_s=check_cpu_s,
            )


def _without(rewrite: Rewrite, phase: Literal["guided", "self_align"]) -> Rewrite:
    """Returns the settings without samples of `phase` and without Hinted Decoding."""
    silent = getattr(rewrite, phase).model_copy(update={"num_samples": 0})
    return rewrite.model_copy(update={phase: silent, "method": "guided", "hinted_beside": False})


async def _rewritten(
    problems: Sequence[Problem], rewrite: Rewrite, *, recipe: Recipe, verifier: Verifier, policy: Policy
) -> list[Record]:
    chosen = replace(recipe, rewrite=rewrite)
    return await asyncio.gather(*(rewrite_one(one, policy, verifier, chosen) for one in problems))


async def _check_all(
    records: Sequence[Record], policy: ScoringPolicy, prompter: Prompter, settings: Grounding
) -> None:
    await asyncio.gather(*(_check(record, policy, prompter, settings) for record in records))


async def _check(record: Record, policy: ScoringPolicy, prompter: Prompter, settings: Grounding) -> None:
    """Scores the same texts that the grounding check scored for a record, as the cascade does."""
    check = GroundingCheck(record.problem, record.prompt_ids, policy, prompter)
    await asyncio.gather(
        *(
            check.scores(one.rollout.completion, one.verdict.answer, beside_expert=settings.narrows_gap)
            for one in record.attempts
            if one.grounding is not None
        )
    )


def _timed(work: Coroutine[Any, Any, object]) -> tuple[float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    asyncio.run(work)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _work(records: Sequence[Record]) -> GuidedWork:
    attempts = [attempt for record in records for attempt in record.attempts]
    return GuidedWork(
        num_problems=len(records),
        num_samples=len(attempts),
        num_tokens=sum(record.num_sampled_tokens for record in records),
        num_right=sum(attempt.verdict.is_correct for attempt in attempts),
        num_scored=sum(attempt.grounding is not None for attempt in attempts),
        num_experts=sum(any(one.grounding is not None for one in record.attempts) for record in records),
        num_kept=sum(any(one.is_accepted for one in record.attempts) for record in records),
    )


def print_bench(rounds: Sequence[GroundingRound], console: Console | None = None) -> None:
    """Prints the check's cost as a share of the guided phase's, over all rounds, and the amount of work."""
    console, work = console or Console(), rounds[-1].work
    table = Table("the check's share of the guided stage's", "median", "least", "most")
    for name, shares in (
        ("time", [one.share for one in rounds]),
        ("processor time", [one.cpu_share for one in rounds]),
    ):
        table.add_row(name, *(f"{f(shares):.3f}" for f in (statistics.median, min, max)))
    table.title = f"{len(rounds)} round(s) of {statistics.median(one.guided_s for one in rounds):.1f} s"
    console.print(table)
    console.print(
        f"{work.num_problems:,} problems, {work.num_samples:,} samples of {work.num_tokens:,} tokens, "
        f"{work.num_right:,} right; the check scored {work.num_scored:,} of them and {work.num_experts:,} "
        f"experts' texts; {work.num_kept:,} problems keep a sample",
        highlight=False,
    )
