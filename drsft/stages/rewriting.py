"""Rewriting with Ray Data: an actor holds one engine and runs the cascade for many problems at once."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from drsft import __version__
from drsft.config import RunConfig
from drsft.errors import StageError
from drsft.planning import Plan, read_shard
from drsft.policy.prompts import load_prompter, model_location
from drsft.policy.protocol import Scorer
from drsft.policy.provenance import provenance
from drsft.policy.teacher import OpenAITeachers
from drsft.policy.vllm import VLLMPolicy
from drsft.records import Outcome, Problem, Record
from drsft.rewrite.allowance import Allowance
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.contradiction import contradicts
from drsft.shards import ShardSet
from drsft.stages.actors import actor_resources, actor_verifier, raise_cause
from drsft.stages.progress import Ticker
from drsft.storage import Store, open_store
from drsft.tables import records_to_table

__all__ = ["PREFIX", "is_complete", "run_rewriting"]

PREFIX = "rewrite"
STAGE = "rewrite"


class ShardRewriter:
    """One engine and its verifiers; several shards in flight, so the engine never drains between them."""

    def __init__(
        self, config_json: str, store_url: str, tokens_per_problem_of_run: float | None, board: Any
    ) -> None:
        config = RunConfig.model_validate_json(config_json)
        prompter = load_prompter(config.target.model, config.target.prompts)
        self._store = open_store(store_url)
        self._shards = ShardSet(self._store, PREFIX)
        self._recipe = Recipe(
            rewrite=config.rewrite,
            prompter=prompter,
            run_seed=config.seed,
            max_model_len=config.target.max_model_len,
            teachers=OpenAITeachers(config.rewrite.teachers) if config.rewrite.teachers else None,
        )
        self._tokens_per_problem_of_run = tokens_per_problem_of_run
        self._policy = VLLMPolicy(config.target, prompter)
        self._provenance = {"version": __version__, **provenance(config.target)}
        self._verifier = actor_verifier(config)
        self._scorer = _target_scorer(config) if config.rewrite.selection == "closest" else None
        self._ticker = Ticker(board, STAGE)

    async def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        commits = [await self._rewrite_shard(str(shard)) for shard in batch["shard"]]
        return {"shard": batch["shard"], "num_rows": np.array(commits)}

    async def _rewrite_shard(self, shard: str) -> int:
        started_at = time.time()
        problems = read_shard(self._store, "problems", shard)
        share = self._tokens_per_problem_of_run
        allowance = Allowance(None if share is None else round(share * len(problems)))
        try:
            records = await asyncio.gather(*(self._rewrite(problem, allowance) for problem in problems))
        except StageError:
            os._exit(1)  # raising would retry the shard on this same actor, whose engine is dead (ray #60145)
        self._ticker.flush()
        summary = summarise(records, started_at=started_at) | {"provenance": self._provenance}
        table = records_to_table(records, self._provenance)
        return self._shards.commit(shard, table, summary).num_rows

    async def _rewrite(self, problem: Problem, allowance: Allowance) -> Record:
        record = await rewrite_one(
            problem, self._policy, self._verifier, self._recipe, allowance=allowance, scorer=self._scorer
        )
        self._ticker.add(done=1, num_tokens=record.num_sampled_tokens, **{record.source.value: 1})
        return record


def _target_scorer(config: RunConfig) -> Scorer:
    """The target once more, for its likelihoods: the engine gives no entropy over the whole vocabulary.

    Imported here, after the engine: what loads torch first decides how many threads it gets.
    """
    import torch

    from drsft.gap.scorer import BatchedScorer
    from drsft.train.model import load_model

    model = load_model(model_location(config.target.model)).eval()
    if torch.cuda.is_available():
        model = model.to(device="cuda", dtype=getattr(torch, config.target.dtype))
    return BatchedScorer(model)


def summarise(records: Sequence[Record], *, started_at: float) -> dict[str, Any]:
    """The counts of a shard, so that a report needs the small commit objects only."""
    attempts = [attempt for record in records for attempt in record.attempts]
    verdicts = Counter(f"{a.rollout.stage}/{a.verdict.outcome}/{a.verdict.reason}" for a in attempts)
    tokens: Counter[str] = Counter()
    for attempt in attempts:
        tokens[attempt.rollout.stage] += len(attempt.rollout.completion.token_ids)
    steps = [a.steps.outcome for a in attempts if a.steps is not None and a.is_accepted]
    return {
        "sources": Counter(record.source.value for record in records),
        "solved": Counter(kept.rollout.stage for record in records if (kept := record.kept_attempt)),
        "refusals": Counter(a.refusal for a in attempts if a.refusal is not None),
        "checks": {
            "steps_read": sum(outcome in (Outcome.CORRECT, Outcome.WRONG) for outcome in steps),
            "steps_failed": sum(outcome is Outcome.WRONG for outcome in steps),
            "contradicting": sum(contradicts(record.problem, record.expert_verdict) for record in records),
        },
        "samples": Counter(attempt.rollout.stage for attempt in attempts),
        "problems": Counter(stage for r in records for stage in {a.rollout.stage for a in r.attempts}),
        "tokens": tokens,
        "verdicts": verdicts,
        "started_at": started_at,  # seconds since 1970
        "ended_at": time.time(),
    }


def is_complete(store: Store, plan: Plan) -> bool:
    return ShardSet(store, PREFIX).done() >= plan.shards.keys()


def run_rewriting(config: RunConfig, store_url: str, plan: Plan, board: Any) -> None:
    """Rewrites every shard of the plan that is not committed yet."""
    done = ShardSet(open_store(store_url), PREFIX).done()
    missing = [shard for shard in plan.shards if shard not in done]
    num_done = sum(plan.shards[shard] for shard in plan.shards if shard in done)
    ray.get(board.begin.remote(STAGE, total=plan.num_problems, done_before=num_done))
    resources = config.resources
    budget = config.rewrite.tokens_per_run
    share = None if budget is None else budget / plan.num_problems
    num_actors = min(resources.rewrite_actors, len(missing))
    # One row is one shard and one block: each is a task of its own, and an actor takes several at once.
    rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
    committed = rows.map_batches(
        ShardRewriter,
        fn_constructor_args=(config.model_dump_json(), store_url, share, board),
        batch_size=1,
        compute=ActorPoolStrategy(
            size=num_actors, max_concurrent_calls_per_actor=resources.shards_in_flight_per_actor
        ),
        **actor_resources(resources),
    )
    with raise_cause("rewriting"):
        committed.materialize()
