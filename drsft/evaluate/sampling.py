"""Draws and judges k samples of each problem, with the same policy and verifier as rewriting."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from drsft.config import Benchmark, Evaluate
from drsft.evaluate.answers import answer_groups
from drsft.evaluate.plans import benchmark_prompters, missing_shards, read_plans
from drsft.evaluate.samples import Judged, samples_to_table, verdicts_to_table
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy
from drsft.records import Completion, FinishReason, Problem, Sampling, ThoughtPart, stable_seed
from drsft.run import layout
from drsft.run.models import EvaluatedModel
from drsft.run.plan import read_shard
from drsft.run.run import Run
from drsft.run.summary import Work, WorkSummary
from drsft.verify.protocol import Verifier, judge_completion

__all__ = ["Evaluation", "evaluate_model", "evaluate_shard", "rejudge_shard"]

OnProblem = Callable[[int], None]  # the tokens of a problem that is done


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The settings that are the same for every problem of a benchmark."""

    protocol: Evaluate
    prompter: Prompter  # with the prompts of this benchmark
    run_seed: int

    def sampling(self, problem: Problem) -> Sampling:
        """Returns a problem's sampling settings.

        The seeds depend on the problem and not on the model, so that models can be compared in pairs.
        """
        return Sampling(
            num_samples=self.protocol.num_samples,
            temperature=self.protocol.temperature,
            top_p=self.protocol.top_p,
            max_tokens=self.protocol.max_tokens,
            seed=stable_seed(self.run_seed, problem.problem_id, "evaluate"),
        )


async def evaluate_model(
    run: Run,
    model: EvaluatedModel,
    *,
    policy: Policy,
    verifier: Verifier,
    prompter: Prompter,
    verifier_version: str,
    provenance: Mapping[str, str],
    on_problem: OnProblem = lambda num_tokens: None,
    may_begin: Callable[[], bool] = lambda: True,
) -> None:
    """Samples the run's benchmarks with a model, several shards side by side; committed shards are skipped.

    `may_begin` is called, in a thread, before each shard; if it returns false, the shard is skipped. A
    finished shard is committed with its cost and provenance, so a resumed evaluation does not sample it
    again. `on_problem` is called with the token count of each finished problem.
    """
    config = run.config
    protocol, prompters = config.evaluate, benchmark_prompters(config, prompter)
    in_flight = asyncio.Semaphore(config.resources.shards_in_flight_per_actor)

    async def one(benchmark: Benchmark, shard: str) -> None:
        async with in_flight:
            if await asyncio.to_thread(may_begin):
                await begun(benchmark, shard)

    async def begun(benchmark: Benchmark, shard: str) -> None:
        problems = await asyncio.to_thread(read_shard, run.store, layout.benchmark(benchmark), shard)
        evaluation = Evaluation(protocol=protocol, prompter=prompters[benchmark.name], run_seed=config.seed)
        started_at = time.time()
        samples = await evaluate_shard(problems, policy, verifier, evaluation, on_problem=on_problem)
        summary = WorkSummary(
            work=Work.since(started_at),
            num_units=samples.num_rows,
            num_tokens=sum(samples["num_tokens"].to_pylist()),
            verifier=verifier_version,
            provenance=provenance,
        )
        shards = run.samples(model, benchmark)
        await asyncio.to_thread(shards.commit, shard, samples, summary.to_json())

    missing = missing_shards(run, model, read_plans(run))
    await asyncio.gather(*(one(benchmark, shard) for benchmark, shard in missing))


async def evaluate_shard(
    problems: Sequence[Problem],
    policy: Policy,
    verifier: Verifier,
    evaluation: Evaluation,
    *,
    on_problem: OnProblem,
) -> pa.Table:
    """Samples and judges the problems side by side; returns the samples in SAMPLE_SCHEMA."""

    async def one(problem: Problem) -> list[Judged]:
        sampling = evaluation.sampling(problem)
        completions = await policy.generate(evaluation.prompter.plain(problem), sampling)
        judged = await _judge(problem, completions, verifier, seed=sampling.seed)
        on_problem(sum(len(completion.token_ids) for completion in completions))
        return judged

    judged = await asyncio.gather(*map(one, problems))
    return samples_to_table([sample for samples in judged for sample in samples])


async def rejudge_shard(problems: Sequence[Problem], samples: pa.Table, verifier: Verifier) -> pa.Table:
    """Judges earlier samples again; returns the verdicts in VERDICT_SCHEMA."""
    completions: dict[str, list[Completion]] = {problem.problem_id: [] for problem in problems}
    for row in samples.sort_by([("problem_id", "ascending"), ("sample_index", "ascending")]).to_pylist():
        completion = Completion(
            token_ids=tuple(row["token_ids"]),
            text=row["text"],
            behaviour_logprobs_T=None,
            finish_reason=FinishReason(row["finish_reason"]),
            thought=ThoughtPart(**row["thought"]) if row.get("thought") else None,
        )
        completions[row["problem_id"]].append(completion)
    judged = await asyncio.gather(
        *(_judge(problem, completions[problem.problem_id], verifier, seed=0) for problem in problems)
    )
    return verdicts_to_table([sample for of_problem in judged for sample in of_problem])


async def _judge(
    problem: Problem, completions: Sequence[Completion], verifier: Verifier, *, seed: int
) -> list[Judged]:
    verdicts = await asyncio.gather(*(judge_completion(verifier, problem, one) for one in completions))
    groups = await answer_groups(problem, verdicts, verifier)
    return [
        Judged(
            problem_id=problem.problem_id,
            sample_index=index,
            seed=seed + index,
            completion=completion,
            verdict=verdict,
            answer_group=group,
        )
        for index, (completion, verdict, group) in enumerate(zip(completions, verdicts, groups, strict=True))
    ]
