"""Evaluates with Ray Data: an actor loads a model, samples shards of the benchmarks with it, and takes
another model when no shard is waiting for this one.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from drsft.config import RunConfig, Target
from drsft.evaluate.benchmark_shards import missing_shards
from drsft.evaluate.sampling import ModelEvaluation
from drsft.policy.prompts import Prompter
from drsft.policy.protocol import Policy
from drsft.policy.provenance import provenance
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.process.logs import log_as_json
from drsft.run.models import EvaluatedModel
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.stages.actors import (
    EngineGuard,
    EnginePulse,
    MakePolicy,
    actor_resources,
    actor_verifier,
    raise_given_up,
    run_to_end,
)
from drsft.stages.engine_deaths import Permit
from drsft.stages.model_queues import ModelQueues
from drsft.stages.progress_board import ProgressReporter, stop_if_draining
from drsft.stages.shard_queue import NoShard
from drsft.stages.turn import run_prompter
from drsft.storage import download_folder, open_store
from drsft.verify.version import verifier_version

__all__ = ["is_complete", "run_evaluation"]

STAGE = "evaluate"


class EvaluatingActor:
    """An actor with one engine at a time; it has several shards of its model in flight."""

    def __init__(self, config_json: str, store_url: str, board: Any, make_policy: MakePolicy | None) -> None:
        self._config = RunConfig.model_validate_json(config_json)
        log_as_json(run=self._config.run_id, stage=STAGE)
        self._run = Run(open_store(store_url), self._config)
        self._verifier = actor_verifier(self._config)
        self._models = {model.name: model for model in self._run.models()}
        self._board, self._progress = board, ProgressReporter(board, STAGE)
        self._make_policy = make_policy
        self._guard = EngineGuard(board, STAGE)
        self._guard.ready()  # an engine starts as a part of the work

    async def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Loads models and samples their shards until there is no more work; the row is the engine number."""
        with self._guard.ended_if_exhausted():
            for engine in map(int, batch["engine"]):
                while (name := await self._guard.next_model(engine)) is not None:
                    async with self._guard.work(name) as permit:
                        if permit is Permit.FREE:
                            await self._evaluate(self._models[name], engine)
                    self._progress.flush()
        return batch

    async def _evaluate(self, model: EvaluatedModel, engine: int) -> None:
        with tempfile.TemporaryDirectory(prefix="drsft-export-") as folder:
            target = self._target(model, Path(folder))
            prompter = run_prompter(target, self._run.store)
            with self._policy(target, prompter) as policy:
                evaluation = ModelEvaluation(
                    self._run,
                    model,
                    policy=policy,
                    verifier=self._verifier,
                    prompter=prompter,
                    verifier_version=verifier_version(),
                    provenance={} if self._make_policy else provenance(target),
                    on_problem=self._count,
                )
                await evaluation.evaluate(partial(self._draw, engine))

    async def _draw(self, engine: int, slot: int, finished: str | None) -> str | None:
        first = engine * self._config.resources.shards_in_flight_per_actor
        drawn = await self._guard.next_shard(first + slot, finished=finished)
        return None if isinstance(drawn, NoShard) else drawn

    @contextmanager
    def _policy(self, target: Target, prompter: Prompter) -> Iterator[Policy]:
        if self._make_policy is not None:
            yield self._make_policy(target, prompter)
            return
        with VLLMPolicy(target, prompter, on_phase=self._guard.is_in) as policy:
            pulse = EnginePulse(self._board, STAGE, self._guard.actor_id, policy)
            try:
                yield policy
            finally:
                pulse.stop()

    def _count(self, num_tokens: int) -> None:
        self._progress.count("rollouts", self._config.evaluate.num_samples, stage=STAGE)
        self._progress.add(done=1, num_tokens=num_tokens)

    def _target(self, model: EvaluatedModel, folder: Path) -> Target:
        if model.folder is None:
            return self._config.target
        download_folder(self._run.store, model.folder.export, folder)
        return self._config.target.model_copy(update={"model": str(folder)})


def is_complete(run: Run, plans: Mapping[str, Plan]) -> bool:
    return not any(missing_shards(run, model, plans) for model in run.models())


def run_evaluation(
    run: Run, plans: Mapping[str, Plan], board: Any, *, make_policy: MakePolicy | None = None
) -> None:
    """Samples every model on every benchmark shard that is not committed yet, judges and commits the
    samples.
    """
    config, models = run.config, run.models()
    missing = {model.name: missing_shards(run, model, plans) for model in models}
    total = len(models) * sum(plan.num_problems for plan in plans.values())
    to_do = sum(shard.num_problems for shards in missing.values() for shard in shards)
    queues = ModelQueues.of(
        {model: [shard.name for shard in shards] for model, shards in missing.items()},
        slots_per_engine=config.resources.shards_in_flight_per_actor,
    )
    ray.get(board.begin.remote(STAGE, total=total, done_before=total - to_do))
    ray.get(board.set_models.remote(STAGE, queues))
    num_engines = min(config.resources.engine_share.num_workers, queues.most_engines)
    engines = ray.data.from_items(
        [{"engine": engine} for engine in range(num_engines)], override_num_blocks=num_engines
    )
    evaluated = engines.map_batches(
        EvaluatingActor,
        fn_constructor_args=(config.model_dump_json(), run.url, board, make_policy),
        batch_size=1,
        # One row at a time, or an actor that is ready first would take another one's.
        compute=ActorPoolStrategy(size=num_engines, max_tasks_in_flight_per_actor=1),
        **actor_resources(config.resources),
    )
    run_to_end(evaluated, "evaluation")
    stop_if_draining(board)
    raise_given_up(board, STAGE)
