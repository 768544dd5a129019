"""drsft's part of the cascade bench: the rewriting job on a real engine, with prescribed answers.

    python -m drsft.bench.rewriting.graded CONFIG.json

The engine samples and its tokens count, but each sample's text is replaced by a right or a wrong answer, as
drsft/bench/rewriting/acceptance.py prescribes; drsft's verifier then judges it. Prints one JSON line
{"num_tokens", "seconds", "num_alone"}, without the engine's start.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from drsft.bench.rewriting.acceptance import is_right
from drsft.config import RunConfig, SamplingPhase, Target
from drsft.intake.planning import Planning, plan_problems
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.protocol import Draw, OnTokens
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Completion, FinishReason, Phase, Problem, Sampling, Source, stable_seed
from drsft.run.layout import PROBLEMS
from drsft.run.run import Run
from drsft.run.summary import ShardCounts, span_s
from drsft.stages.actors import quiet_ray_data
from drsft.stages.cluster import connected, quiet_stderr
from drsft.stages.progress_board import start_board
from drsft.stages.rewriting import run_rewriting
from drsft.storage import open_store

__all__ = ["bench_problems"]


def bench_problems(config: RunConfig) -> list[Problem]:
    return list(read_problems(config.problems, Intake()))


@dataclass(frozen=True, slots=True)
class _Asked:
    """The problem and the phase that a prompt belongs to."""

    problem: Problem
    phase: Phase


class GradedPolicy:
    """Samples with an engine and replaces each text by a right or a wrong answer, as prescribed beforehand.

    It knows the prompts of the problems in `config`, and raises KeyError for any other.
    """

    def __init__(self, policy: VLLMPolicy, prompter: Prompter, config: RunConfig) -> None:
        self._policy, self._run_seed = policy, config.seed
        self._settings: dict[Phase, SamplingPhase] = {
            Phase.SELF_ALIGN: config.rewrite.self_align,
            Phase.GUIDED: config.rewrite.guided,
        }
        self._asked = {
            prompt_ids: _Asked(problem, phase)
            for problem in bench_problems(config)
            for phase, prompt_ids in (
                (Phase.SELF_ALIGN, prompter.plain(problem)),
                (Phase.GUIDED, prompter.guided(problem)),
            )
        }

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        return list(
            await asyncio.gather(
                *(one.completion for one in self.draw(prompt_ids, sampling, on_tokens=on_tokens))
            )
        )

    def draw(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Draw]:
        asked = self._asked[tuple(prompt_ids)]
        first_index = self._first_index(asked, sampling.seed)
        return [
            Draw(asyncio.ensure_future(_graded(draw.completion, asked, first_index + number)), draw.stop)
            for number, draw in enumerate(self._policy.draw(prompt_ids, sampling, on_tokens=on_tokens))
        ]

    def _first_index(self, asked: _Asked, seed: int) -> int:
        """Returns the index of the first sample of the wave that has this seed."""
        settings = self._settings[asked.phase]
        firsts = range(0, settings.num_samples, settings.wave_size)
        names = (self._run_seed, asked.problem.problem_id, asked.phase)
        return next(first for first in firsts if stable_seed(*names, str(first)) == seed)


async def _graded(sampled: asyncio.Future[Completion], asked: _Asked, sample_index: int) -> Completion:
    completion = await sampled
    if completion.finish_reason is FinishReason.STOPPED:
        return completion
    right = is_right(asked.problem.problem_id, asked.phase, sample_index)
    answer = asked.problem.reference if right else f"{asked.problem.reference}1"
    return replace(completion, text=f"\\boxed{{{answer}}}", finish_reason=FinishReason.STOP)


def graded_policy(target: Target, prompter: Prompter, *, config: RunConfig) -> GradedPolicy:
    return GradedPolicy(VLLMPolicy(target, prompter), prompter, config)


def main() -> None:
    config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())
    store = open_store(config.storage)
    plan = plan_problems(
        config.problems,
        store,
        PROBLEMS,
        prompter=target_prompter(config.target),
        max_model_len=config.target.max_model_len,
    )
    with quiet_stderr(Console(stderr=True)), connected():
        quiet_ray_data()
        make_policy = partial(graded_policy, config=config)
        run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=make_policy)
    summaries = Run(store).summaries()
    counts = ShardCounts.total(summary.counts for summary in summaries)
    result = {
        "num_tokens": counts.tokens.total() + counts.num_stopped_tokens,
        "seconds": span_s(summary.work for summary in summaries),
        "num_alone": counts.sources[Source.OWN],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
