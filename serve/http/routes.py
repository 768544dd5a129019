"""Defines the routes, independently of where the engines run."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import Response

from drsft import __version__
from serve.api import Readiness, RewriteRequest, RewriteResult, VersionInfo
from serve.http.backend import Backend
from serve.http.batches import add_batches
from serve.http.errors import install_error_handlers
from serve.http.loopback import LoopbackNames
from serve.http.middleware import RequestGuard
from serve.http.openapi import ERRORS, DocumentedApp
from serve.http.streams import add_streams
from serve.limits.keys import Key

__all__ = ["make_app"]

_bearer = HTTPBearer(auto_error=False, description="a key of the service")


def make_app(backend: Backend) -> FastAPI:
    app = DocumentedApp(
        title="drsft",
        version=__version__,
        summary="Rewrites expert solutions into text that the target model could have written.",
        docs_url=None,  # their page loads scripts from other servers
        redoc_url=None,
        responses={403: ERRORS[403]},
    )
    install_error_handlers(app)
    if backend.keys is None:
        app.add_middleware(LoopbackNames)
    app.add_middleware(
        RequestGuard,
        max_body_bytes=backend.config.limits.body_bytes,
        metrics=backend.metrics,
        gate=backend.gate,
    )
    if backend.config.access.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(backend.config.access.cors_origins),
            allow_methods=["POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        )
    caller = _caller_of(backend)
    _add_rewriting(app, backend, caller)
    add_streams(app, backend, caller=caller, errors=ERRORS)
    add_batches(app, backend, caller=caller, errors=ERRORS)
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


def _add_rewriting(app: FastAPI, backend: Backend, caller: Any) -> None:
    @app.post("/rewrite", responses=ERRORS, response_model=RewriteResult)
    async def rewrite(
        body: RewriteRequest,
        request: Request,
        key: Key = caller,
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=128,
                description="any text; a request with the same key and body joins the first one, or gets its "
                "answer again",
            ),
        ] = None,
    ) -> Any:
        """Rewrite one problem and return its solution with all attempts."""
        work = backend.rewrite(key, body, request.state.request_id, idempotency_key=idempotency_key)
        return await _while_connected(request, work)


async def _while_connected(request: Request, work: Awaitable[RewriteResult]) -> RewriteResult | Response:
    """Returns the result of `work`, which is cancelled when the client disconnects, to free its engine slots
    at once.
    """
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


def _add_health(app: FastAPI, backend: Backend) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Respond while the process is alive, whatever state its engines are in."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: ERRORS[503]})
    async def readyz() -> Readiness:
        """Respond with 200 while an engine is up and requests are admitted, otherwise with 503."""
        backend.gate.check()
        return Readiness(status="ready", engine_requests=await backend.num_pending())

    @app.get("/version")
    async def version() -> VersionInfo:
        """Return the versions of drsft and of the model."""
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
