"""Scores on demand: requests that arrive while one batch is computed form the next batch."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from drsft.gap.scoring import CausalLM, Row, TokenScores, score_rows

__all__ = ["BatchedScorer"]


@dataclass(frozen=True, slots=True)
class _Request:
    rows: list[Row]
    answer: asyncio.Future[list[TokenScores]]


class BatchedScorer:
    """Scores with one copy of a model's weights, from one event loop; forward passes run in another thread.

    The model must be on its device and in eval mode: it is not changed.
    """

    def __init__(self, model: CausalLM, *, batch_tokens: int = 16_384) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._waiting: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None

    async def mean_phi(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[float]:
        """Returns the mean φ of each completion, nats per token. Raises ValueError if the prompt or a
        completion is empty.
        """
        if not prompt_ids or not all(completions):
            raise ValueError("prompt and completions must all have tokens")
        loop = asyncio.get_running_loop()
        request = _Request([(prompt_ids, ids) for ids in completions], loop.create_future())
        self._waiting.append(request)
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        return [float(scores.phi_T.mean()) for scores in await request.answer]

    async def _work(self) -> None:
        """Computes batch after batch until no request waits; the next request starts it again."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._answer(batch)
        finally:
            self._worker = None

    async def _answer(self, requests: list[_Request]) -> None:
        requests = [request for request in requests if not request.answer.done()]  # cancelled
        rows = [row for request in requests for row in request.rows]
        try:
            scores = iter(
                await asyncio.to_thread(score_rows, self._model, rows, batch_tokens=self._batch_tokens)
            )
        except Exception as error:  # an error is raised in the waiting callers only
            if len(requests) > 1:
                for request in requests:
                    await self._answer([request])
            elif requests and not requests[0].answer.done():
                requests[0].answer.set_exception(error)
            return
        for request in requests:
            own = [next(scores) for _ in request.rows]
            if not request.answer.done():  # cancelled meanwhile
                request.answer.set_result(own)
