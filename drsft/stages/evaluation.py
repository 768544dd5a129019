"""Evaluates with Ray Data: an actor takes model after model and samples the benchmarks' shards."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from drsft.config import RunConfig, Target
from drsft.evaluate.plans import missing_shards
from drsft.evaluate.sampling import evaluate_model
from drsft.policy.provenance import provenance
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.process.logs import log_as_json
from drsft.run.models import EvaluatedModel
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.stages.actors import (
    EngineGuard,
    EnginePulse,
    actor_resources,
    actor_verifier,
    raise_given_up,
    run_to_end,
)
from drsft.stages.engine_deaths import Permit
from drsft.stages.progress_board import ProgressReporter, stop_if_draining
from drsft.stages.turn import run_prompter
from drsft.storage import download_folder, open_store
from drsft.verify.version import verifier_version

__all__ = ["is_complete", "run_evaluation"]

STAGE = "evaluate"


class ModelEvaluator:
    """Evaluates one model per row of the Ray Data pipeline: samples every benchmark shard that is not
    committed yet.

    It keeps the model's engine until the next model.
    """

    def __init__(self, config_json: str, store_url: str, board: Any) -> None:
        self._config = RunConfig.model_validate_json(config_json)
        log_as_json(run=self._config.run_id, stage=STAGE)
        self._run = Run(open_store(store_url), self._config)
        self._verifier = actor_verifier(self._config)
        self._models = {model.name: model for model in self._run.models()}
        self._board, self._progress = board, ProgressReporter(board, STAGE)
        self._guard = EngineGuard(board, STAGE)
        self._guard.ready()  # an engine starts as a part of the work

    async def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if await asyncio.to_thread(self._progress.is_draining):
            return {"model": batch["model"]}
        model = self._models[str(batch["model"][0])]
        async with self._guard.work(model.name) as permit:
            if permit is Permit.FREE:
                await self._evaluate(model)
        self._progress.flush()
        return {"model": batch["model"]}

    async def _evaluate(self, model: EvaluatedModel) -> None:
        with tempfile.TemporaryDirectory(prefix="drsft-export-") as folder:
            target = self._target(model, Path(folder))
            prompter = run_prompter(target, self._run.store)
            policy = VLLMPolicy(target, prompter, on_phase=self._guard.is_in)
            pulse = EnginePulse(self._board, STAGE, self._guard.actor_id, policy)
            try:
                await evaluate_model(
                    self._run,
                    model,
                    policy=policy,
                    verifier=self._verifier,
                    prompter=prompter,
                    verifier_version=verifier_version(),
                    provenance=provenance(target),
                    on_problem=self._count,
                    may_begin=lambda: not self._progress.is_draining(),
                )
            finally:
                pulse.stop()
                policy.close()

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


def run_evaluation(run: Run, plans: Mapping[str, Plan], board: Any) -> None:
    """Samples every model on every benchmark shard that is not committed yet."""
    config, models = run.config, run.models()
    missing = {model.name: missing_shards(run, model, plans) for model in models}
    total = len(models) * sum(plan.num_problems for plan in plans.values())
    to_do = sum(
        plans[benchmark.name].shards[shard] for shards in missing.values() for benchmark, shard in shards
    )
    ray.get(board.begin.remote(STAGE, total=total, done_before=total - to_do))
    rows = [{"model": name} for name, shards in missing.items() if shards]
    evaluated = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        ModelEvaluator,
        fn_constructor_args=(config.model_dump_json(), run.url, board),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(config.resources.engine_share.num_workers, len(rows))),
        **actor_resources(config.resources),
    )
    run_to_end(evaluated, "evaluation")
    stop_if_draining(board)
    raise_given_up(board, STAGE)
