"""The middlewares that run in Serve's own proxy, before any replica.

`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.ray.proxy:middlewares` in the environment of every Ray node
installs them; `drsft serve` and the image set it. Without them the service is slightly slower, a request
whose ingress replica died gets Ray's bare 500, and clients can set headers that control Serve.
"""

import os
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.bodies import PREFETCHED_BODY, READ_S, in_time
from serve.http.errors import EngineUnavailable
from serve.http.middleware import request_id_of, with_safe_headers
from serve.http.proxy_answers import reject_in_proxy
from serve.limits.overload import OverloadGuard
from serve.service_metrics import ServiceMetrics

__all__ = ["BodyPrefetch", "CleanHeaders", "LostReplicaErrors", "middlewares"]

MOST_BYTES_AHEAD = 64 << 10
# What Serve reads of a request by itself: the deadline and the end of a request whose client left are this
# service's own, and a value that is not UTF-8 is a bare 500 that leaves a queue behind. Hyphens count as `_`.
_OF_SERVE = {
    "x_request_timeout_seconds",
    "x_request_disconnect_disabled",
    "serve_multiplexed_model_id",
    os.environ.get("RAY_SERVE_SESSION_ID_HEADER_KEY", "x-session-id").lower().replace("-", "_"),
}


def middlewares() -> list[Middleware]:
    """Returns the middlewares; Serve calls it when it starts a proxy. The last one is the outermost."""
    from serve.ray.metrics import RayServiceMetrics  # within Ray

    metrics = RayServiceMetrics()
    return [
        Middleware(BodyPrefetch, metrics=metrics),
        Middleware(LostReplicaErrors, metrics=metrics),
        Middleware(OverloadGuard, metrics=metrics),
        Middleware(CleanHeaders),
    ]


class CleanHeaders:
    """Gives each request one id, removes headers that control Serve, and adds security headers to responses.

    The id must be set before anything responds: Serve sets one too, but inside all middlewares.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            request_id = request_id_of(Headers(scope=scope).get("x-request-id", ""))
            headers = [one for one in scope["headers"] if _may_pass(one[0])]
            scope = {**scope, "headers": [*headers, (b"x-request-id", request_id.encode())]}
        await self._app(scope, receive, with_safe_headers(send))


def _may_pass(header: bytes) -> bool:
    name = header.decode("latin-1").lower()
    return name != "x-request-id" and name.replace("-", "_") not in _OF_SERVE


class BodyPrefetch:
    """Middleware that reads a small body in the proxy and passes it on together with the request.

    Otherwise the replica asks the proxy for the body in another call.
    """

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics, read_s: float = READ_S) -> None:
        self._app, self._metrics, self._read_s = app, metrics, read_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if length.isascii() and length.isdigit() and int(length) <= MOST_BYTES_AHEAD:
            try:
                body = await _whole(in_time(self._read_s, receive))
            except HTTPException as error:
                await reject_in_proxy(error, self._metrics, scope, receive, send, seconds=self._read_s)
                return
            if body is None:
                return
            scope[PREFETCHED_BODY] = body
        await self._app(scope, receive, send)


async def _whole(receive: Receive) -> bytes | None:
    """Returns the body; None if the client disconnected before its end."""
    body, has_more = b"", True
    while has_more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    return body


class LostReplicaErrors:
    """Middleware that sends a problem document if a request got no response, or only the proxy's own 503."""

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_answered = is_gone = False
        began_s = time.perf_counter()

        async def watched_receive() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_ours = "X-Content-Type-Options" in headers  # http/middleware.py puts it on every answer
                if is_ours:  # it has an id already, and Serve has added its own behind it
                    headers["X-Request-Id"] = headers["X-Request-Id"]
                is_answered = is_ours or message["status"] != 503
            if is_answered:
                await send(message)

        await self._app(scope, watched_receive, watched_send)
        if not (is_answered or is_gone):
            seconds = time.perf_counter() - began_s
            await reject_in_proxy(EngineUnavailable(), self._metrics, scope, receive, send, seconds=seconds)
