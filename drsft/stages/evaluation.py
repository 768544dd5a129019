"""Evaluation with Ray Data: an actor takes model after model and samples the benchmarks' shards."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from drsft.config import Benchmark, Evaluate, RunConfig, Target
from drsft.errors import StageError
from drsft.evaluate.models import EvaluatedModel, evaluated_models
from drsft.evaluate.sampling import Evaluation, evaluate_shard
from drsft.planning import Plan, plan_problems, read_shard
from drsft.policy.prompts import Prompter, load_prompter
from drsft.policy.provenance import provenance
from drsft.policy.vllm import VLLMPolicy
from drsft.shards import ShardSet
from drsft.stages.actors import actor_resources, actor_verifier, raise_cause
from drsft.stages.progress import Ticker
from drsft.storage import Store, download_folder, open_store
from drsft.verify.version import verifier_version

__all__ = ["is_complete", "plan_benchmarks", "run_evaluation"]

STAGE = "evaluate"


def plan_benchmarks(config: RunConfig, store: Store) -> dict[str, Plan]:
    """Every benchmark's shards; problems need no expert solution here."""
    prompters = _prompters(config, load_prompter(config.target.model, config.target.prompts))
    return {
        benchmark.name: plan_problems(
            benchmark.problems,
            store,
            benchmark.prefix,
            prompter=prompters[benchmark.name],
            max_model_len=config.target.max_model_len,
            needs_demonstration=False,
        )
        for benchmark in config.evaluate.benchmarks
    }


def _prompters(config: RunConfig, prompter: Prompter) -> dict[str, Prompter]:
    """By benchmark: `prompter` with the prompts that it is asked with."""
    evaluate, own = config.evaluate, config.target.prompts
    return {
        benchmark.name: Prompter(prompter.tokenizer, evaluate.prompts_for(benchmark, own))
        for benchmark in evaluate.benchmarks
    }


class ModelEvaluator:
    """Keeps the engine of the model it is at; a row is one model with all that is missing of it."""

    def __init__(self, config_json: str, store_url: str, board: Any) -> None:
        self._config = RunConfig.model_validate_json(config_json)
        self._store = open_store(store_url)
        self._verifier = actor_verifier(self._config)
        self._models = {model.name: model for model in evaluated_models(self._config)}
        self._benchmarks = {benchmark.name: benchmark for benchmark in self._config.evaluate.benchmarks}
        self._ticker = Ticker(board, STAGE)

    async def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        model = self._models[str(batch["model"][0])]
        with tempfile.TemporaryDirectory(prefix="drsft-export-") as folder:
            target = self._target(model, Path(folder))
            prompter = load_prompter(target.model, target.prompts)
            prompters = _prompters(self._config, prompter)
            policy = VLLMPolicy(target, prompter)
            summary = {"verifier": verifier_version(), "provenance": provenance(target)}
            try:
                shards = [str(shard).partition("/") for shard in batch["shards"][0]]
                await asyncio.gather(
                    *(
                        self._shard(model, self._benchmarks[name], shard, policy, prompters[name], summary)
                        for name, _, shard in shards
                    )
                )
            except StageError:
                os._exit(1)  # the engine is dead: see RewritingActor
            finally:
                policy.close()
        self._ticker.flush()
        return {"model": batch["model"]}

    def _target(self, model: EvaluatedModel, folder: Path) -> Target:
        if model.export_key is None:
            return self._config.target
        download_folder(self._store, model.export_key, folder)
        return self._config.target.model_copy(update={"model": str(folder)})

    async def _shard(
        self,
        model: EvaluatedModel,
        benchmark: Benchmark,
        shard: str,
        policy: VLLMPolicy,
        prompter: Prompter,
        summary: dict[str, Any],
    ) -> None:
        protocol = self._config.evaluate
        samples = await evaluate_shard(
            read_shard(self._store, benchmark.prefix, shard),
            policy,
            self._verifier,
            Evaluation(protocol=protocol, prompter=prompter, run_seed=self._config.seed),
            on_problem=lambda num_tokens: self._ticker.add(done=1, num_tokens=num_tokens),
        )
        shards = ShardSet(self._store, protocol.samples_prefix(model.name, benchmark))
        shards.commit(shard, samples, summary)


def is_complete(store: Store, config: RunConfig, plans: dict[str, Plan]) -> bool:
    return not any(
        _missing_shards(store, config.evaluate, model.name, plans) for model in evaluated_models(config)
    )


def run_evaluation(config: RunConfig, store_url: str, plans: dict[str, Plan], board: Any) -> None:
    """Samples every model on every benchmark shard that is not committed yet."""
    store = open_store(store_url)
    models = evaluated_models(config)
    missing = {model.name: _missing_shards(store, config.evaluate, model.name, plans) for model in models}
    total = len(models) * sum(plan.num_problems for plan in plans.values())
    to_do = sum(
        plans[shard.partition("/")[0]].shards[shard.partition("/")[2]]
        for shards in missing.values()
        for shard in shards
    )
    ray.get(board.begin.remote(STAGE, total=total, done_before=total - to_do))
    rows = [{"model": name, "shards": shards} for name, shards in missing.items() if shards]
    evaluated = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        ModelEvaluator,
        fn_constructor_args=(config.model_dump_json(), store_url, board),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(config.resources.rewrite_actors, len(rows))),
        **actor_resources(config.resources),
    )
    with raise_cause("evaluation"):
        evaluated.materialize()


def _missing_shards(store: Store, evaluate: Evaluate, model: str, plans: dict[str, Plan]) -> list[str]:
    """As benchmark/shard."""
    missing = []
    for benchmark in evaluate.benchmarks:
        done = ShardSet(store, evaluate.samples_prefix(model, benchmark)).done()
        missing += [
            f"{benchmark.name}/{shard}" for shard in sorted(plans[benchmark.name].shards.keys() - done)
        ]
    return missing
