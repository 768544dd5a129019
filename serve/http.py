"""The routes. Knows the service behind it, but not where its engines run."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Address
from starlette.exceptions import HTTPException
from starlette.responses import Response

from drsft import __version__
from serve.admission import Admission, Ticket
from serve.api import (
    BatchLine,
    BatchRequest,
    ErrorBody,
    Readiness,
    RewriteRequest,
    RewriteResult,
    VersionInfo,
)
from serve.auth import Key, KeyRing
from serve.events import EventLog, EventLogs
from serve.problems import Unauthorised, install_problems, problem_of, problem_response
from serve.replay import Replay
from serve.service import Listener, Plan, RewriteService, Unacceptable
from serve.settings import ServeConfig
from serve.shield import Shield

__all__ = ["Backend", "make_app"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "content": {"application/problem+json": {}}, "description": text}
    for status, text in {
        400: "not JSON",
        401: "no valid key",
        409: "the Idempotency-Key belongs to another request",
        413: "the body is too large",
        422: "a field is missing, unknown, or past a limit",
        429: "full, or past the key's rate; see Retry-After",
        500: "a fault here",
        503: "no engine; see Retry-After",
        504: "the deadline passed",
    }.items()
}
_bearer = HTTPBearer(auto_error=False, description="a key of the service")


class Backend:
    """One replica's share of everything: what the routes need between them."""

    def __init__(
        self,
        config: ServeConfig,
        service: RewriteService,
        *,
        num_pending: Callable[[], Awaitable[int]],
        model_fingerprint: str,
    ) -> None:
        self.config, self.service = config, service
        self.num_pending = num_pending  # of an engine; raises EngineUnavailable when none answers
        self.model_fingerprint = model_fingerprint
        access, limits = config.access, config.limits
        self.keys = None if access.keys_file is None else KeyRing(access.keys_path, access)
        self.anyone = Key(
            name="anyone",
            digest=b"",
            requests_per_minute=access.requests_per_minute,
            tokens_per_minute=access.tokens_per_minute,
        )
        self.admission = Admission(limits.tokens_in_flight)
        self.replay = Replay(max_entries=limits.remembered_results, keep_s=limits.remembered_s)
        self.streams = EventLogs(keep_s=limits.resumable_s)
        self.tasks: set[asyncio.Task[Any]] = set()

    def caller(self, credentials: HTTPAuthorizationCredentials | None, client: Address | None) -> Key:
        if self.keys is None:
            if client is None or not _is_loopback(client.host):
                raise Unauthorised
            return self.anyone
        key = self.keys.find(credentials.credentials) if credentials else None
        if key is None:
            raise Unauthorised
        return key

    async def rewrite(
        self,
        key: Key,
        request: RewriteRequest,
        request_id: str,
        *,
        idempotency_key: str | None = None,
        listener: Listener | None = None,
    ) -> RewriteResult:
        """Checked, admitted, within its deadline. Raises what `problem_of` turns into an answer."""
        plan = self.service.plan(request)
        result, is_repeated = await self.replay.run(
            key.name, request, idempotency_key, lambda: self._sample(key, plan, request_id, listener)
        )
        return result.model_copy(update={"id": request_id}) if is_repeated else result

    async def _sample(
        self, key: Key, plan: Plan, request_id: str, listener: Listener | None
    ) -> RewriteResult:
        with self.admission.admit(key, plan.estimated_tokens) as ticket:
            async with asyncio.timeout(plan.deadline_s):
                result = await self.service.rewrite(plan, request_id=request_id, listener=listener)
            _count(ticket, result)
            return result


def _count(ticket: Ticket, result: RewriteResult) -> None:
    ticket.used = result.tokens.prompt + result.tokens.sampled


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_app(backend: Backend) -> FastAPI:
    app = FastAPI(
        title="drsft",
        version=__version__,
        summary="Rewrites expert solutions into text that the target model could have written.",
        docs_url=None,  # their page loads scripts from elsewhere
        redoc_url=None,
    )
    install_problems(app)
    app.add_middleware(Shield, max_body_bytes=backend.config.limits.body_bytes)
    if backend.config.access.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(backend.config.access.cors_origins),
            allow_methods=["POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        )
    _add_rewriting(app, backend)
    _add_streams(app, backend)
    _add_health(app, backend)
    _add_page(app)
    return app


def _caller_of(backend: Backend) -> Any:
    async def caller(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Key:
        return backend.caller(credentials, request.client)

    return Depends(caller)


def _add_rewriting(app: FastAPI, backend: Backend) -> None:
    caller = _caller_of(backend)

    @app.post("/rewrite", responses=_ERRORS, response_model=RewriteResult)
    async def rewrite(
        body: RewriteRequest,
        request: Request,
        key: Key = caller,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
    ) -> Any:
        """Rewrite one problem."""
        work = backend.rewrite(key, body, request.state.request_id, idempotency_key=idempotency_key)
        return await _while_connected(request, work)

    @app.post(
        "/rewrite/batch",
        responses={**_ERRORS, 200: {"content": {"application/jsonl": {}}, "model": BatchLine}},
        response_class=StreamingResponse,
    )
    async def batch(body: BatchRequest, request: Request, key: Key = caller) -> Response:
        """Rewrite several; each answer is sent as soon as it is there."""
        if len(body.problems) > backend.config.limits.batch_problems:
            raise Unacceptable("problems", f"at most {backend.config.limits.batch_problems} at once")
        lines = _batch_lines(backend, key, body, request.state.request_id)
        return StreamingResponse(lines, media_type="application/jsonl")


async def _while_connected(request: Request, work: Awaitable[RewriteResult]) -> RewriteResult | Response:
    """Ends the work when the client goes away: its engine slots are free for others at once."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else Response(status_code=499)  # nobody reads it
    finally:
        for one in (task, gone):
            one.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _batch_lines(backend: Backend, key: Key, body: BatchRequest, request_id: str) -> AsyncIterator[str]:
    """One line for each problem in order of completion; leaving early ends those that are under way."""

    async def one(index: int, problem: RewriteRequest) -> BatchLine:
        part_id = f"{request_id}-{index}"
        try:
            return BatchLine(index=index, result=await backend.rewrite(key, problem, part_id))
        except Exception as error:
            return BatchLine(index=index, error=problem_of(error, part_id)[0])

    tasks = [asyncio.create_task(one(index, problem)) for index, problem in enumerate(body.problems)]
    try:
        for done in asyncio.as_completed(tasks):
            yield (await done).model_dump_json(exclude_none=True) + "\n"
    finally:
        for task in tasks:
            task.cancel()


def _add_streams(app: FastAPI, backend: Backend) -> None:
    caller = _caller_of(backend)

    @app.post(
        "/rewrite/stream",
        responses={**_ERRORS, 200: {"content": {"text/event-stream": {}}, "description": "the events"}},
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


def _add_health(app: FastAPI, backend: Backend) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: _ERRORS[503]})
    async def readyz() -> Readiness:
        """An engine answers."""
        return Readiness(status="ready", engine_requests=await backend.num_pending())

    @app.get("/version")
    async def version() -> VersionInfo:
        return VersionInfo(
            drsft=__version__, model=backend.config.target.model, fingerprint=backend.model_fingerprint
        )


def _add_page(app: FastAPI) -> None:
    page = files("serve") / "page"
    for route, name, media_type in (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    ):
        content = (page / name).read_text(encoding="utf-8")

        async def show(content: str = content, media_type: str = media_type) -> Response:
            return Response(content, media_type=media_type)

        app.add_api_route(route, show, methods=["GET"], include_in_schema=False)
