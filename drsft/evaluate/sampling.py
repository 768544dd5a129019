"""Draws and judges k samples of each problem, with the same policy and verifier as rewriting."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pyarrow as pa

from drsft.config import Benchmark, RunConfig
from drsft.evaluate.answers import answer_groups
from drsft.evaluate.benchmark_shards import BenchmarkShard, benchmark_shards
from drsft.evaluate.plans import benchmark_prompters, read_plans
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

__all__ = ["DrawShard", "ModelEvaluation", "rejudge_shard"]

OnProblem = Callable[[int], None]  # the tokens of a problem that is done
DrawShard = Callable[
    [int, str | None], Awaitable[str | None]
]  # a slot, what it has finished -> its next shard


class ModelEvaluation:
    """Samples the run's benchmarks with one model, several shards side by side, and commits each shard."""

    def __init__(
        self,
        run: Run,
        model: EvaluatedModel,
        *,
        policy: Policy,
        verifier: Verifier,
        prompter: Prompter,
        verifier_version: str,
        provenance: Mapping[str, str],
        on_problem: OnProblem = lambda num_tokens: None,
    ) -> None:
        """`on_problem` is called with the token count of each finished problem."""
        self._run, self._model, self._policy, self._verifier = run, model, policy, verifier
        self._prompters = benchmark_prompters(run.config, prompter)
        self._verifier_version, self._provenance = verifier_version, provenance
        self._on_problem = on_problem
        self._shards = {one.name: one for one in benchmark_shards(run, read_plans(run))}
        self._drawing = asyncio.Lock()
        self._backlog = _Backlog(limit=run.config.target.engine.max_num_seqs)

    async def evaluate(self, draw: DrawShard) -> None:
        """Samples the shards that `draw` returns, each in one of `shards_in_flight_per_actor` slots, until it
        returns None in every slot.

        A shard is drawn only when fewer problems are being sampled than the engine decodes sequences at once:
        so the engine is busy, and the other shards remain for other engines.
        """
        num_slots = self._run.config.resources.shards_in_flight_per_actor
        await asyncio.gather(*(self._work_in(slot, draw) for slot in range(num_slots)))

    async def _work_in(self, slot: int, draw: DrawShard) -> None:
        finished = None
        while (shard := await self._next_shard(slot, finished, draw)) is not None:
            await self._evaluate(shard)
            finished = shard.name

    async def _next_shard(self, slot: int, finished: str | None, draw: DrawShard) -> BenchmarkShard | None:
        async with self._drawing:
            await self._backlog.has_room.wait()
            name = await draw(slot, finished)
            if name is None:
                return None
            shard = self._shards[name]
            self._backlog.add(shard.num_problems)
            return shard

    async def _evaluate(self, shard: BenchmarkShard) -> None:
        """Samples and commits a shard, unless it is committed: a restarted actor gets its shards again."""
        shards = self._run.samples(self._model, shard.benchmark)
        if await asyncio.to_thread(shards.find, shard.shard):
            self._backlog.add(-shard.num_problems)
            return
        folder = layout.benchmark(shard.benchmark)
        problems = await asyncio.to_thread(read_shard, self._run.store, folder, shard.shard)
        started_at = time.time()
        judged = await asyncio.gather(*(self._evaluate_one(problem, shard.benchmark) for problem in problems))
        samples = samples_to_table([sample for of_problem in judged for sample in of_problem])
        summary = WorkSummary(
            work=Work.since(started_at),
            num_units=samples.num_rows,
            num_tokens=sum(samples["num_tokens"].to_pylist()),
            verifier=self._verifier_version,
            provenance=self._provenance,
        )
        await asyncio.to_thread(shards.commit, shard.shard, samples, summary.to_json())

    async def _evaluate_one(self, problem: Problem, benchmark: Benchmark) -> list[Judged]:
        sampling = sampling_of(problem, self._run.config)
        prompt_ids = self._prompters[benchmark.name].plain(problem)
        completions = await self._policy.generate(prompt_ids, sampling)
        self._backlog.add(-1)
        judged = await _judge(problem, completions, self._verifier, seed=sampling.seed)
        self._on_problem(sum(len(completion.token_ids) for completion in completions))
        return judged


class _Backlog:
    """Counts the problems that an engine has or is about to get; `has_room` is set below the limit."""

    def __init__(self, *, limit: int) -> None:
        self._limit, self._num_problems = limit, 0
        self.has_room = asyncio.Event()
        self.has_room.set()

    def add(self, num_problems: int) -> None:
        self._num_problems += num_problems
        if self._num_problems < self._limit:
            self.has_room.set()
        else:
            self.has_room.clear()


def sampling_of(problem: Problem, config: RunConfig) -> Sampling:
    """Returns a problem's sampling settings. Its seeds do not depend on the model, so models are paired."""
    protocol = config.evaluate
    return Sampling(
        num_samples=protocol.num_samples,
        temperature=protocol.temperature,
        top_p=protocol.top_p,
        max_tokens=protocol.max_tokens,
        seed=stable_seed(config.seed, problem.problem_id, "evaluate"),
    )


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
