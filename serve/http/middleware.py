"""The middleware in front of every route: request ids, body limits, and security headers."""

import re
import secrets
import time
from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.bodies import PREFETCHED_BODY, READ_S, ahead, at_most, in_time, too_large
from serve.http.draining import DrainGate
from serve.http.errors import error_document, error_response
from serve.service_metrics import ServiceMetrics

__all__ = ["RequestGuard", "request_id_of", "with_safe_headers"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def with_safe_headers(send: Send) -> Send:
    """Returns a send function that adds the security headers to every response."""

    async def safe_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            out = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                out.setdefault(name, value)
        await send(message)

    return safe_send


def request_id_of(given: str) -> str:
    """Returns the client's request id if it is valid, or else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


class RequestGuard:
    """Applies request ids, body limits and security headers. It is plain ASGI, so that it also wraps streams
    and routing errors.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        metrics: ServiceMetrics,
        gate: DrainGate,
        read_s: float = READ_S,
    ) -> None:
        self._app, self._metrics, self._gate = app, metrics, gate
        self._max_body_bytes, self._read_s = max_body_bytes, read_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers.get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id

        safe_send = with_safe_headers(send)
        began_s, status = time.perf_counter(), 0  # until a response has started

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await safe_send(message)

        try:
            # GET requests (health, page) are still served while the replica drains.
            with self._gate.admitted() if scope["method"] == "POST" else nullcontext():
                await self._pass_on(scope, receive, guarded_send, headers)
        except Exception as error:  # not a handler's: Starlette calls the one for Exception outside of this
            if status:
                status = 500  # too late for an error response
                raise
            await error_response(*error_document(error, request_id))(scope, receive, guarded_send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - began_s
            self._metrics.answered(
                route=route, status=status or 499, seconds=seconds
            )  # 499: the client disconnected

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        prefetched = scope.pop(PREFETCHED_BODY, None)
        if prefetched is not None:
            receive = ahead(prefetched, receive)
        await self._app(scope, in_time(self._read_s, at_most(self._max_body_bytes, receive)), send)
