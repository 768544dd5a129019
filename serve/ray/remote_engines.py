"""The engines as an ingress sees them: one policy that calls any replica with free capacity."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from drsft.errors import StageError
from drsft.policy.protocol import OnTokens
from drsft.records import Completion, Sampling
from serve.http.errors import EngineUnavailable
from serve.limits.admission import Rejected

__all__ = ["RemotePolicy", "RemoteScorer"]

ANSWER_S = 2.0  # an engine reports its load in much less time
# The errors that a call raises if its replica is gone, stopping or broken.
_LOST = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError, StageError)


class RemotePolicy:
    """Samples on remote engines; if an engine is lost, the request is sent once more, to another one.

    This is safe because prompt and seed describe the request completely.
    """

    def __init__(self, engines: DeploymentHandle) -> None:
        self._engines = engines

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, on_tokens: OnTokens | None = None
    ) -> list[Completion]:
        try:
            return await self._ask(prompt_ids, sampling, on_tokens)
        except _LOST:
            pass
        try:
            return await self._ask(prompt_ids, sampling, None)  # its first tokens have been sent already
        except _LOST as error:
            raise EngineUnavailable from error

    async def logprobs(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[float, ...]:
        """Returns each token's ln p, as `ScoringPolicy.logprobs` specifies.

        If the engine is lost, another one is asked. Raises EngineUnavailable if that one is lost too,
        Rejected if all are full.
        """
        try:
            return await self._score(prompt_ids, completion_ids)
        except _LOST:
            pass
        try:
            return await self._score(prompt_ids, completion_ids)
        except _LOST as error:
            raise EngineUnavailable from error

    async def _score(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> tuple[float, ...]:
        response = self._engines.logprobs.remote(list(prompt_ids), list(completion_ids))
        async with _cancelled_with_us(response):
            try:
                logprobs_T: tuple[float, ...] = await response
            except BackPressureError as error:
                raise Rejected("every engine is full", 2, is_full=True) from error
        return logprobs_T

    async def _ask(
        self, prompt_ids: Sequence[int], sampling: Sampling, on_tokens: OnTokens | None
    ) -> list[Completion]:
        try:
            if on_tokens is None:
                response = self._engines.generate.remote(list(prompt_ids), sampling)
                async with _cancelled_with_us(response):
                    completions: list[Completion] = await response
                    return completions
            return await self._listen(prompt_ids, sampling, on_tokens)
        except BackPressureError as error:
            raise Rejected("every engine is full", 2, is_full=True) from error

    async def _listen(
        self, prompt_ids: Sequence[int], sampling: Sampling, on_tokens: OnTokens
    ) -> list[Completion]:
        response = self._engines.options(stream=True).stream.remote(list(prompt_ids), sampling)
        async with _cancelled_with_us(response):
            async for told, completions in response:
                for index, token_ids in told:
                    on_tokens(index, token_ids)
                if completions is not None:
                    result: list[Completion] = completions
                    return result
        raise StageError("an engine replica ended a stream of tokens without sending the completions")

    async def num_pending(self) -> int:
        """Asks one engine, which Ray Serve chooses, for its number of unfinished requests.

        Raises EngineUnavailable if that engine does not respond in time or cannot be reached.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return int(await self._engines.num_pending.remote())
        except (*_LOST, TimeoutError, BackPressureError) as error:
            raise EngineUnavailable from error


class RemoteScorer:
    """Scores texts with a remote copy of the target."""

    def __init__(self, scorers: DeploymentHandle) -> None:
        self._scorers = scorers

    async def mean_phi(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
        response = self._scorers.mean_phi.remote(list(prompt_ids), [list(one) for one in completions])
        async with _cancelled_with_us(response):
            try:
                phis: list[float] = await response
            except _LOST as error:
                raise EngineUnavailable from error
            except BackPressureError as error:
                raise Rejected("the scorer is full", 2, is_full=True) from error
        return phis


@asynccontextmanager
async def _cancelled_with_us(response: Any) -> AsyncIterator[None]:
    """Cancels the remote call when the caller is cancelled, since nobody would read its result."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        response.cancel()
        raise
