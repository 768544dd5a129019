"""POST /rewrite/stream: server-sent events, which a reader can resume after a lost connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.api import ErrorBody, RewriteRequest
from serve.http.backend import Backend
from serve.http.errors import error_document, error_response
from serve.http.event_log import EventLog
from serve.limits.keys import Key

__all__ = ["add_streams"]

ALONE_S = 5.0  # the page reconnects to a broken stream three times within 3 s


def add_streams(app: FastAPI, backend: Backend, *, caller: Any, errors: dict[int | str, Any]) -> None:
    """Adds POST /rewrite/stream to `app`.

    `caller` is the FastAPI dependency that returns the Key of a request's sender; `errors` are the documented
    error responses.
    """

    @app.post(
        "/rewrite/stream",
        responses={
            **errors,
            404: {
                **errors[401],
                "description": "no stream has that Last-Event-ID, or it is too old; send the request again",
            },
            200: {"content": {"text/event-stream": {}}, "description": "the events of one rewriting"},
        },
        response_class=StreamingResponse,
    )
    async def stream(
        body: RewriteRequest,
        request: Request,
        key: Key = caller,
        resumable: Annotated[
            bool,
            Query(
                description=f"keep sampling for {ALONE_S:g} s after the client left, so that it can resume"
            ),
        ] = False,
        last_event_id: Annotated[
            str | None, Header(max_length=128, description="resume a resumable stream after this event's id")
        ] = None,
    ) -> Response:
        """Rewrite one problem and send an event for each stage, attempt, new text and verdict as it happens.

        The last event is `result` or `error`. An error before the first event is a status instead.
        """
        if last_event_id is not None:
            found = backend.streams.find(key.name, last_event_id)
            if found is None:
                raise HTTPException(
                    404, "this stream does not exist or is too old to resume; send the request again"
                )
            log, after = found
            return _Events(log, after=after)
        backend.service.plan(body)  # an invalid request gets a status, not an event
        request_id = request.state.request_id
        log = EventLog(request_id, patience_s=ALONE_S if resumable else 0)
        if resumable:
            backend.streams.add(key.name, log)
        task = asyncio.create_task(_run_stream(backend, key, body, request_id, log))
        backend.tasks.add(task)
        task.add_done_callback(backend.tasks.discard)
        log.give_up = task.cancel
        try:
            first = await anext(log.read())
        except BaseException:
            task.cancel()  # the client left before any event from which it could resume
            raise
        if first.kind == "error":
            failure = await task
            assert failure is not None
            return error_response(*failure)
        return _Events(log)


async def _run_stream(
    backend: Backend, key: Key, body: RewriteRequest, request_id: str, log: EventLog
) -> tuple[ErrorBody, dict[str, str]] | None:
    """Fills the log to its end; returns the error that ended it."""
    failure = None
    try:
        result = await backend.rewrite(key, body, request_id, listener=log.add)
        log.add("result", result.model_dump(mode="json"))
    except Exception as error:
        failure = error_document(error, request_id)
        log.add("error", failure[0].model_dump(mode="json"))
    finally:
        backend.streams.end(key.name, log)
    return failure


class _Events(StreamingResponse):
    """The events for one reader, which counts as present until the response ends, even if it never reads the
    body.
    """

    def __init__(self, log: EventLog, *, after: int = -1) -> None:
        super().__init__(_sse(log, after), media_type="text/event-stream")
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._log.reader():
            await super().__call__(scope, receive, send)


async def _sse(log: EventLog, after: int) -> AsyncIterator[str]:
    async for event in log.read(after=after):
        yield event.as_sse()
