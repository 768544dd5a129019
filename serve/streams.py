"""POST /rewrite/stream: server-sent events, which a reader can take up again after a broken connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.api import ErrorBody, RewriteRequest
from serve.auth import Key
from serve.backend import Backend
from serve.events import EventLog
from serve.problems import problem_of, problem_response

__all__ = ["add_streams"]


def add_streams(app: FastAPI, backend: Backend, *, caller: Any, errors: dict[int | str, Any]) -> None:
    """`caller` is the dependency that gives the Key; `errors` documents what may go wrong."""

    @app.post(
        "/rewrite/stream",
        responses={
            **errors,
            404: {**errors[401], "description": "no stream with that Last-Event-ID, or it is too old"},
            200: {"content": {"text/event-stream": {}}, "description": "the events"},
        },
        response_class=StreamingResponse,
    )
    async def stream(
        body: RewriteRequest,
        request: Request,
        key: Key = caller,
        resumable: Annotated[
            bool, Query(description="go on for a while after a broken connection, to be taken up again")
        ] = False,
        last_event_id: Annotated[str | None, Header(max_length=128)] = None,
    ) -> Response:
        """Rewrite one problem and tell of each stage, attempt, text, verdict and the result as it happens.

        With `Last-Event-ID` it goes on behind that event, if the stream was resumable and is not too old.
        """
        if last_event_id is not None:
            found = backend.streams.find(key.name, last_event_id)
            if found is None:
                raise HTTPException(404, "no such stream, or it is too old; send the request anew")
            log, after = found
            return StreamingResponse(_sse(log, after=after), media_type="text/event-stream")
        backend.service.plan(body)  # what is wrong with it is a status, not an event
        request_id = request.state.request_id
        log = backend.streams.start(key.name, request_id)
        task = asyncio.create_task(_run_stream(backend, key, body, request_id, log))
        backend.tasks.add(task)
        task.add_done_callback(backend.tasks.discard)
        first = await anext(log.read())
        if first.kind == "error":
            failure = await task
            assert failure is not None
            return problem_response(*failure)
        events = _sse(log, cancel=None if resumable else task)
        return StreamingResponse(events, media_type="text/event-stream")


async def _run_stream(
    backend: Backend, key: Key, body: RewriteRequest, request_id: str, log: EventLog
) -> tuple[ErrorBody, dict[str, str]] | None:
    """Fills the log to its end; returns the error that ended it."""
    failure = None
    try:
        result = await backend.rewrite(key, body, request_id, listener=log.add)
        log.add("result", result.model_dump(mode="json"))
    except Exception as error:
        failure = problem_of(error, request_id)
        log.add("error", failure[0].model_dump(mode="json"))
    finally:
        backend.streams.end(key.name, log)
    return failure


async def _sse(
    log: EventLog, *, after: int = -1, cancel: "asyncio.Task[Any] | None" = None
) -> AsyncIterator[str]:
    try:
        async for event in log.read(after=after):
            yield event.as_sse()
    finally:
        if cancel is not None:
            cancel.cancel()
