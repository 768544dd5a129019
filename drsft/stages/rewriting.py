"""Rewrites with Ray Data: an actor holds one engine and runs the cascade for many problems at once."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from drsft import __version__
from drsft.config import RunConfig
from drsft.errors import DrsftError, StageError
from drsft.intake.planning import Planning
from drsft.policy.engine_loop import Stepping
from drsft.policy.engines import build_engines
from drsft.policy.hinted.protocol import HintedDecoder
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy, Scorer
from drsft.policy.provenance import provenance
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.start_phases import OnPhase
from drsft.process.collector import freeze_heap
from drsft.process.logs import log_as_json
from drsft.process.stall_guard import StallGuard
from drsft.records import Attempt, Phase, QuarantinedRow, Record, stable_seed
from drsft.rewrite.cascade import Recipe
from drsft.rewrite.events import NoEvents
from drsft.rewrite.shard import ShardRewriter
from drsft.rewrite.shard_task import num_problems_to_rewrite
from drsft.run import layout
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.stages.actors import (
    EngineGuard,
    EnginePulse,
    MakePolicy,
    actor_resources,
    actor_verifier,
    raise_given_up,
    run_to_end,
    scoring_model,
)
from drsft.stages.announcer import Announcer
from drsft.stages.engine_deaths import Permit
from drsft.stages.progress_board import ProgressReporter, stop_if_draining
from drsft.stages.shard_queue import NoShard
from drsft.stages.trace_export import check_can_export, export_traces
from drsft.stages.turn import run_prompter
from drsft.storage import open_store

__all__ = ["is_complete", "run_rewriting"]

logger = logging.getLogger(__name__)

STAGE = "rewrite"
KILLS_ENGINE = "its engine dies each time that it is sampled"
ASKED_AGAIN_S = 0.5


class RewritingActor:
    """An actor with one engine and its verifiers; it has several shards in flight to keep the engine busy."""

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
        self._board, self._progress = board, ProgressReporter(board, STAGE)
        self._events = _Progress(self._progress)
        self._has_failed = False
        self._num_calls, self._num_draws = 0, 0
        self._engines = _stepping(policy, decoder)
        self._drawing = asyncio.Lock()  # one slot asks for all slots while there is no shard
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
            events=self._events,
            number=number,
            before=open_store(before_url) if before_url else None,
            has_conversations=config.problems.columns.messages is not None,
        )
        freeze_heap()
        self._guard.ready()
        if (limit_s := config.resources.stalled_after_s) is not None:
            StallGuard(self._signs_of_life, self._guard.end_stalled, limit_s=limit_s)

    async def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rewrites shards in one slot until there are no more; the row is the slot."""
        self._num_calls += 1
        try:
            with self._guard.ended_if_exhausted():
                for slot in map(int, batch["slot"]):
                    shard = await self._next_shard(slot)
                    while shard is not None:
                        await self._rewrite_shard(shard)
                        shard = await self._next_shard(slot, finished=shard)
        finally:
            self._num_calls -= 1
        return batch

    def _signs_of_life(self) -> tuple[float, ...] | None:
        """Returns what changes whenever an engine makes a step, a sample is judged or the board answers; None
        without work.
        """
        if not self._num_calls:
            return None
        return (self._num_draws, self._events.num_events, *(one.busy_s for one in self._engines))

    async def _next_shard(self, slot: int, *, finished: str | None = None) -> str | None:
        """Returns the slot's next shard, waiting while the data is still being read.

        Returns None if there are no more.
        """
        async with self._drawing:
            while not self._has_failed:
                draw = await self._guard.next_shard(slot, finished=finished)
                self._num_draws += 1
                match draw:
                    case NoShard.YET:
                        await asyncio.sleep(ASKED_AGAIN_S)
                    case NoShard.MORE:
                        return None
                    case shard:
                        return str(shard)
        return None

    async def _rewrite_shard(self, shard: str) -> None:
        async with self._guard.work(shard) as permit:
            if permit is Permit.NEVER:
                return
            try:
                if permit is Permit.FREE:
                    await self._rewriter.rewrite(shard)
                elif not await self._rewrite_without_culprit(shard):
                    return
            except StageError:
                raise
            except DrsftError:
                self._has_failed = True  # it ends the run, so shards queued here are not started
                raise
        self._progress.count("shard_commits", stage=STAGE)
        self._progress.flush()
        if self._send_spans is not None:
            await asyncio.to_thread(self._send_spans)

    async def _rewrite_without_culprit(self, shard: str) -> bool:
        """Finds the row that kills the engine, and rewrites all others; returns False if there is no such
        row.
        """
        problems = await self._rewriter.problems(shard)
        while isinstance(found := await self._guard.next_part(shard, len(problems)), range):
            await self._rewriter.try_out(problems[found.start : found.stop])
            await self._guard.part_survives(shard)
        if found is None:
            return False
        problem = problems[found.row]
        row = QuarantinedRow(
            place=f"shard {shard}, problem {problem.problem_id}",
            reason=KILLS_ENGINE,
            detail=found.cause,
            content=problem.question,
        )
        await self._rewriter.rewrite(shard, set_aside={problem.problem_id: row})
        await self._board.add_set_aside.remote(STAGE, [row])
        return True


class _Progress(NoEvents):
    """Counts finished work, for the run's progress and its metrics."""

    def __init__(self, progress: ProgressReporter) -> None:
        self._progress = progress
        self.num_events = 0

    def sample_begun(self, phase: Phase, sample_index: int) -> None:
        self.num_events += 1

    def sample_ended(self, phase: Phase, sample_index: int) -> None:
        self.num_events += 1

    def attempt_judged(self, attempt: Attempt) -> None:
        self.num_events += 1

    def record_made(self, record: Record) -> None:
        self.num_events += 1
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


def _stepping(*engines: object) -> list[Stepping]:
    return [one for one in engines if isinstance(one, Stepping)]


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
    planning: Planning,
    board: Any,
    *,
    make_policy: MakePolicy | None = None,
    number: int = 1,
    before_url: str | None = None,
) -> None:
    """Rewrites every shard that is not committed yet; `planning` may still add shards meanwhile.

    A later round (`number` from 2) carries over records of the previous round, whose folder is `before_url`;
    its survey must be complete. An error of the planning is raised once the shards in flight are committed.
    """
    store = open_store(store_url)
    if config.traces is not None:
        check_can_export()
    sizes = num_problems_to_rewrite(Run(store)) if before_url else None
    announcer = Announcer(board, STAGE, planning, sizes=sizes, done=ShardSet(store, layout.RECORDS).done())
    announcer.begin()
    resources = config.resources
    num_actors = resources.engine_share.num_workers
    if announcer.num_missing is not None:
        num_actors = min(num_actors, announcer.num_missing)
    num_slots = num_actors * resources.shards_in_flight_per_actor
    # One row is one slot and one block: each is a task of its own, and an actor has several at once.
    slots = ray.data.from_items([{"slot": slot} for slot in range(num_slots)], override_num_blocks=num_slots)
    rewritten = slots.map_batches(
        RewritingActor,
        fn_constructor_args=(
            config.model_dump_json(),
            store_url,
            _tokens_per_problem(config, planning.plan, sizes),
            board,
            make_policy,
            number,
            before_url,
        ),
        batch_size=1,
        compute=ActorPoolStrategy(
            size=num_actors,
            max_tasks_in_flight_per_actor=resources.shards_in_flight_per_actor,
            max_concurrent_calls_per_actor=resources.shards_in_flight_per_actor,
        ),
        **actor_resources(resources),
    )
    with announcer.planning_the_rest():
        run_to_end(rewritten, "rewriting")
    for row in ray.get(board.set_aside.remote(STAGE)):
        logger.warning("%s is set aside: %s (%s)", row.place, row.reason, row.detail)
    stop_if_draining(board)
    raise_given_up(board, STAGE)


def _tokens_per_problem(
    config: RunConfig, plan: Plan | None, sizes: Mapping[str, int] | None
) -> float | None:
    """Returns the round's token budget divided by the number of problems that it rewrites."""
    budget = config.rewrite.tokens_per_run
    if budget is None:
        return None
    assert plan is not None, "a budget is shared out among all shards"
    return budget / max(sum((sizes or plan.shards).values()), 1)
