"""Builds the service on Ray Serve: CPU ingress replicas before engine replicas, scaled separately.

serve.yaml and `drsft serve` name `build_app`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import ray
from ray import serve as ray_serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from drsft.config import WorkerShare
from drsft.policy.card_budget import check_shares
from drsft.policy.engines import build_engines
from drsft.policy.prompts import model_location, target_prompter
from drsft.policy.provenance import model_fingerprint
from drsft.policy.turn.load import today
from drsft.policy.vllm.options import check_options
from drsft.records import Completion, Sampling
from drsft.stages.settled_resources import settled_resources
from drsft.stages.trace_export import check_can_export, export_traces
from drsft.verify.pool import VerifierPool
from serve.http.backend import Backend
from serve.http.routes import make_app
from serve.ray.metrics import RayServiceMetrics
from serve.ray.remote_engines import RemotePolicy, RemoteScorer
from serve.service import RewriteService
from serve.settings import ServeConfig

__all__ = ["Engine", "Ingress", "build_app", "service_verifier"]

MAX_SILENCE_S = 30.0
Told = list[tuple[int, Sequence[int]]]  # samples' indices with their new token ids


class Engine:
    """A replica with one vLLM engine. Serve replaces it when its health check fails."""

    def __init__(self, config_json: str) -> None:
        config = ServeConfig.model_validate_json(config_json)
        prompter = target_prompter(config.target)
        # The scorer is a replica of its own.
        engines = build_engines(config.target, prompter, config.rewrite, shares_card=False)
        self._policy = engines.policy

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> list[Completion]:
        return await self._policy.generate(prompt_ids, sampling)

    async def logprobs(self, prompt_ids: list[int], completion_ids: list[int]) -> tuple[float, ...]:
        return await self._policy.logprobs(prompt_ids, completion_ids)

    async def stream(
        self, prompt_ids: list[int], sampling: Sampling
    ) -> AsyncIterator[tuple[Told, list[Completion] | None]]:
        """Yields (new tokens, None) as tokens arrive, and last (the remaining tokens, all completions).

        New tokens are pairs of a sample's index and its new token ids.
        """
        told: Told = []
        news = asyncio.Event()

        def on_tokens(index: int, token_ids: Sequence[int]) -> None:
            told.append((index, token_ids))
            news.set()

        work = asyncio.create_task(self._policy.generate(prompt_ids, sampling, on_tokens=on_tokens))
        work.add_done_callback(lambda _: news.set())
        try:
            while not work.done():
                await news.wait()
                news.clear()
                if told and not work.done():
                    batch, told[:] = list(told), []
                    yield batch, None
            yield list(told), work.result()
        finally:
            work.cancel()

    async def num_pending(self) -> int:
        """Returns the number of requests in this engine. Raises StageError if it is dead or stuck."""
        self._policy.check(max_silence_s=MAX_SILENCE_S)
        return self._policy.num_pending

    async def check_health(self) -> None:
        """Raises StageError if the engine is dead or stuck, so that Serve replaces this replica."""
        self._policy.check(max_silence_s=MAX_SILENCE_S)


class Scorer:
    """A replica that scores texts with a copy of the target: vLLM gives no entropy over the whole
    vocabulary.
    """

    def __init__(self, config_json: str) -> None:
        # Here, so that engines load torch after their own settings.
        from drsft.gap.scorer import BatchedScorer
        from drsft.train.model import load_for_scoring

        target = ServeConfig.model_validate_json(config_json).target
        self._scorer = BatchedScorer(load_for_scoring(target.model, target.dtype))

    async def mean_phi(self, prompt_ids: list[int], completions: list[list[int]]) -> list[float]:
        return await self._scorer.mean_phi(prompt_ids, completions)


def service_verifier(config: ServeConfig) -> VerifierPool:
    """Returns the verifier processes of one ingress replica, as `rewrite.verification` configures them."""
    return VerifierPool.from_config(config.rewrite.verification, num_workers=config.verify_workers)


@ray_serve.ingress()
class Ingress:
    """A replica for HTTP, keys, admission and verification; it calls the engines for samples only."""

    def __init__(self, config_json: str, engines: DeploymentHandle, scorers: DeploymentHandle | None) -> None:
        config = ServeConfig.model_validate_json(config_json)
        if config.traces is not None:
            export_traces(config.traces, stage="serve")
        policy = RemotePolicy(engines)
        self._verifier = service_verifier(config)
        prompter = target_prompter(config.target)
        self._backend = Backend(
            config,
            RewriteService(config, prompter, policy, self._verifier, scorers and RemoteScorer(scorers)),
            num_pending=policy.num_pending,
            model_fingerprint=model_fingerprint(model_location(config.target.model)),
            metrics=RayServiceMetrics(),
        )

    async def close(self) -> int:
        """Rejects new requests from now on (the replica drains); returns the number of requests in flight."""
        return self._backend.gate.close()

    def __serve_build_asgi_app__(self) -> Any:
        return make_app(self._backend)

    def __del__(self) -> None:
        if hasattr(self, "_verifier"):
            self._verifier.close()


def _shares(config: ServeConfig) -> tuple[WorkerShare, float]:
    """Returns the number of engines with the resources of each, and the GPUs of the scorer.

    A setting that is null is chosen for the cluster for which the service is built, if there is one. There
    must be room for the scorer, and for an engine that starts before another one stops; if there is only one
    GPU, the scorer gets none.
    """
    given = config.resources
    if not ray.is_initialized():
        return given.engine_share, given.engine_share.gpus
    reserved = config.ingress_replicas * config.cpus_per_ingress + (0.5 if config.score_phi else 0)
    share = settled_resources(config.target, given, reserved_cpus=reserved).engine_share
    if given.rewrite_actors is not None:
        return share, share.gpus
    num_spare = int(config.start_before_stop) + int(config.score_phi and share.gpus > 0)
    num_engines = max(share.num_workers - num_spare, 1)
    scorer_gpus = share.gpus if share.num_workers > num_engines else 0
    return replace(share, num_workers=num_engines), scorer_gpus


def _gpus(num_gpus: float) -> dict[str, float]:
    return {"num_gpus": num_gpus} if num_gpus else {}


def build_app(config: ServeConfig) -> Application:
    """Returns the Ray Serve application: ingress, engines and, with `score_phi`, a scorer.

    Serve makes `config` from the `args` of serve.yaml. Raises UserError for settings that cannot work.
    """
    if config.traces is not None:
        check_can_export()
    target = config.target
    check_options(target, is_own_machine=False)
    check_shares(target, config.resources.gpus_per_actor)
    if target.date is None:  # one for all replicas, whenever they start
        target = target.model_copy(update={"date": date.fromisoformat(today())})
    config_json = config.model_copy(update={"target": target}).model_dump_json()
    share, scorer_gpus = _shares(config)
    surge_percent = 1 if config.start_before_stop else 0  # rounded up: one replica more
    engine = ray_serve.deployment(
        Engine,
        name="engine",
        num_replicas=share.num_workers,
        ray_actor_options={"num_cpus": share.cpus, **_gpus(share.gpus)},
        # Continuous batching is the engine's own; what it does not run at once waits in it, within admission.
        max_ongoing_requests=4 * config.target.engine.max_num_seqs,
        max_queued_requests=config.target.engine.max_num_seqs,
        graceful_shutdown_timeout_s=config.drain_s,
        max_surge_percent=surge_percent,
        health_check_period_s=2,
        health_check_timeout_s=10,
    )
    ingress = ray_serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": config.cpus_per_ingress},
        max_ongoing_requests=1000,  # admission is by tokens and answers 429 at once; this is far above it
        max_queued_requests=1000,
        graceful_shutdown_timeout_s=config.drain_s,
        max_surge_percent=surge_percent,
        health_check_period_s=2,
        health_check_timeout_s=10,
    )
    scorer = ray_serve.deployment(
        Scorer,
        name="scorer",
        ray_actor_options={"num_cpus": 0.5, **_gpus(scorer_gpus)},
        max_ongoing_requests=256,
        max_queued_requests=256,
        graceful_shutdown_timeout_s=config.drain_s,
        max_surge_percent=surge_percent,
        health_check_period_s=2,
        health_check_timeout_s=10,
    )
    return ingress.bind(
        config_json, engine.bind(config_json), scorer.bind(config_json) if config.score_phi else None
    )
