"""POST /rewrite/batch: sends a line for each problem as soon as its result is ready."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.api import BatchLine, BatchRequest, RewriteRequest
from serve.http.backend import Backend
from serve.http.errors import error_document
from serve.limits.admission import QueueSlot
from serve.limits.keys import Key
from serve.service import Unacceptable

__all__ = ["add_batches"]


def add_batches(app: FastAPI, backend: Backend, *, caller: Any, errors: dict[int | str, Any]) -> None:
    """Adds POST /rewrite/batch to `app`.

    `caller` is the FastAPI dependency that returns the Key of a request's sender; `errors` are the documented
    error responses.
    """

    @app.post(
        "/rewrite/batch",
        responses={
            **errors,
            200: {
                "content": {"application/jsonl": {}},
                "model": BatchLine,
                "description": "a line for each problem, in order of completion",
            },
        },
        response_class=StreamingResponse,
    )
    async def batch(body: BatchRequest, request: Request, key: Key = caller) -> Response:
        """Rewrite several problems; each problem's line is sent as soon as it has a result or an error.

        If the service is full, a problem waits for capacity until its deadline.
        """
        if len(body.problems) > backend.config.limits.batch_problems:
            raise Unacceptable(
                "problems", f"at most {backend.config.limits.batch_problems} problems are allowed in a batch"
            )
        return _Lines(backend, key, body, request.state.request_id)


class _Lines(StreamingResponse):
    """The lines of a batch's response, in order of completion.

    Raises Rejected, before the response begins, if too many problems are waiting already.
    """

    def __init__(self, backend: Backend, key: Key, body: BatchRequest, request_id: str) -> None:
        super().__init__(self._lines(), media_type="application/jsonl")
        self._backend, self._key, self._body, self._request_id = backend, key, body, request_id
        self._slots: list[QueueSlot] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._backend.admission.queue_slots(self._key, len(self._body.problems)) as self._slots:
            await super().__call__(scope, receive, send)

    async def _lines(self) -> AsyncIterator[str]:
        """Yields the lines; closing it early cancels the problems in flight."""
        problems = zip(self._body.problems, self._slots, strict=True)
        tasks = [asyncio.create_task(self._line(index, *one)) for index, one in enumerate(problems)]
        try:
            for done in asyncio.as_completed(tasks):
                line = await done
                yield line.model_dump_json(exclude={"error" if line.error is None else "result"}) + "\n"
        finally:
            for task in tasks:
                task.cancel()

    async def _line(self, index: int, problem: RewriteRequest, slot: QueueSlot) -> BatchLine:
        part_id = f"{self._request_id}-{index}"
        try:
            result = await self._backend.rewrite(self._key, problem, part_id, slot=slot)
            return BatchLine(index=index, result=result)
        except Exception as error:
            return BatchLine(index=index, error=error_document(error, part_id)[0])
        finally:
            slot.free()
