"""Rewriting with Ray Data: an actor holds one engine and runs the cascade for many problems at once."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from drsft import __version__
from drsft.config import RunConfig, Target
from drsft.errors import DrsftError, StageError
from drsft.policy.engines import build_engines
from drsft.policy.hinted.protocol import HintedDecoder
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy, Scorer
from drsft.policy.provenance import provenance
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.start_phases import OnPhase
from drsft.process.logs import log_as_json
from drsft.records import Record, stable_seed
from drsft.rewrite.cascade import Recipe
from drsft.rewrite.events import NoEvents
from drsft.rewrite.shard import ShardRewriter, freeze_heap
from drsft.rewrite.shard_task import num_problems_to_rewrite
from drsft.run import layout
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.stages.actors import (
    EngineGuard,
    EnginePulse,
    actor_resources,
    actor_verifier,
    raise_given_up,
    run_to_end,
    scoring_model,
)
from drsft.stages.progress_board import ProgressReporter, stop_if_draining
from drsft.stages.trace_export import check_can_export, export_traces
from drsft.stages.turn import run_prompter
from drsft.storage import open_store

__all__ = ["MakePolicy", "is_complete", "run_rewriting"]

STAGE = "rewrite"

MakePolicy = Callable[[Target, Prompter], Policy]  # called once in each actor


class RewritingActor:
    """One engine and its verifiers; several shards in flight, so the engine never drains between them."""

    def __init__(
        self,
        config_json: str,
        store_url: str,
        tokens_per_problem_of_run: float | None,
        board: Any,
        make_policy: MakePolicy | None,
        number: int,
        before_url: str | None,
    ) -> None:
        config = RunConfig.model_validate_json(config_json)
        log_as_json(run=config.run_id, stage=STAGE)
        self._send_spans = (
            export_traces(config.traces, run=config.run_id, stage=STAGE) if config.traces else None
        )
        self._guard = EngineGuard(board, STAGE)
        prompter = run_prompter(config.target, open_store(store_url))
        policy, decoder = _policy_and_decoder(config, prompter, make_policy, self._guard.is_in)
        self._progress = ProgressReporter(board, STAGE)
        self._has_failed = False
        if isinstance(policy, VLLMPolicy):
            EnginePulse(board, STAGE, self._guard.actor_id, policy)
        self._rewriter = ShardRewriter(
            open_store(store_url),
            _recipe(config, number, prompter, decoder),
            policy,
            actor_verifier(config),
            provenance={"version": __version__} | ({} if make_policy else provenance(config.target)),
            tokens_per_problem_of_run=tokens_per_problem_of_run,
            problems_in_flight=config.resources.problems_in_flight_per_actor,
            scorer=_target_scorer(config) if config.rewrite.selection == "closest" else None,
            events=_Progress(self._progress),
            number=number,
            before=open_store(before_url) if before_url else None,
            has_conversations=config.problems.columns.messages is not None,
        )
        freeze_heap()
        self._guard.ready()

    async def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        num_rows = [await self._rewrite_shard(str(shard)) for shard in batch["shard"]]
        return {"shard": batch["shard"], "num_rows": np.array(num_rows)}

    async def _rewrite_shard(self, shard: str) -> int:
        if self._has_failed or await asyncio.to_thread(self._progress.is_draining):
            return 0
        async with self._guard.work(shard) as may_begin:
            if not may_begin:
                return 0
            try:
                commit = await self._rewriter.rewrite(shard)
            except StageError:
                raise
            except DrsftError:
                self._has_failed = True  # it ends the run, so shards that are queued here need not begin
                raise
        self._progress.count("shard_commits", stage=STAGE)
        self._progress.flush()
        if self._send_spans is not None:
            await asyncio.to_thread(self._send_spans)
        return commit.num_rows


class _Progress(NoEvents):
    """Counts what is done, for the run's progress and its metrics."""

    def __init__(self, progress: ProgressReporter) -> None:
        self._progress = progress

    def record_made(self, record: Record) -> None:
        self._progress.count("rollouts", len(record.attempts), stage=STAGE)
        self._progress.count("sources", source=record.source.value)
        for attempt in record.attempts:
            verdict, phase = attempt.verdict, attempt.rollout.phase
            labels = {
                "cascade_stage": phase.value,
                "outcome": verdict.outcome.value,
                "reason": verdict.reason,
            }
            self._progress.count("verdicts", **labels)
        self._progress.add(done=1, num_tokens=record.num_sampled_tokens, **{record.source.value: 1})


def _policy_and_decoder(
    config: RunConfig, prompter: Prompter, make_policy: MakePolicy | None, on_phase: OnPhase
) -> tuple[Policy, HintedDecoder | None]:
    if make_policy is not None:
        return make_policy(config.target, prompter), None
    engines = build_engines(config.target, prompter, config.rewrite, on_phase=on_phase)
    return engines.policy, engines.decoder


def _recipe(config: RunConfig, number: int, prompter: Prompter, decoder: HintedDecoder | None) -> Recipe:
    return Recipe.of(
        config.rewrite,
        prompter,
        run_seed=config.seed if number == 1 else stable_seed(config.seed, f"round-{number}"),
        max_model_len=config.target.max_model_len,
        decoder=decoder,
    )


def _target_scorer(config: RunConfig) -> Scorer:
    model = scoring_model(config.target)
    from drsft.gap.scorer import BatchedScorer  # loads torch: see scoring_model

    return BatchedScorer(model)


def is_complete(run: Run, plan: Plan) -> bool:
    return run.records.done() >= plan.shards.keys()


def run_rewriting(
    config: RunConfig,
    store_url: str,
    plan: Plan,
    board: Any,
    *,
    make_policy: MakePolicy | None = None,
    number: int = 1,
    before_url: str | None = None,
) -> None:
    """Rewrites every shard of the plan that is not committed yet.

    A later round (`number` from 2) carries over records of the one before, which lies at
    `before_url`; its survey must be complete.
    """
    store = open_store(store_url)
    sizes = num_problems_to_rewrite(Run(store)) if before_url else plan.shards
    done = ShardSet(store, layout.RECORDS).done()
    missing = [shard for shard in plan.shards if shard not in done]
    num_done = sum(sizes[shard] for shard in plan.shards if shard in done)
    ray.get(board.begin.remote(STAGE, total=sum(sizes.values()), done_before=num_done))
    if config.traces is not None:
        check_can_export()
    resources = config.resources
    budget = config.rewrite.tokens_per_run
    share = None if budget is None else budget / max(sum(sizes.values()), 1)
    num_actors = min(resources.engine_share.num_workers, len(missing))
    # One row is one shard and one block: each is a task of its own, and an actor takes several at once.
    rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
    committed = rows.map_batches(
        RewritingActor,
        fn_constructor_args=(
            config.model_dump_json(),
            store_url,
            share,
            board,
            make_policy,
            number,
            before_url,
        ),
        batch_size=1,
        compute=ActorPoolStrategy(
            size=num_actors, max_concurrent_calls_per_actor=resources.shards_in_flight_per_actor
        ),
        **actor_resources(resources),
    )
    run_to_end(committed, "rewriting")
    stop_if_draining(board)
    raise_given_up(board, STAGE)
