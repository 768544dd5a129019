"""What stands before every route: request ids, body limits, and headers that keep a browser from harm."""

import re
import secrets
import time
from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.bodies import BODY_AHEAD, READ_S, ahead, at_most, in_time, too_large
from serve.http.draining import Door
from serve.http.errors import problem_of, problem_response
from serve.telemetry import Meter

__all__ = ["Shield", "request_id_of", "with_safe_headers"]

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
    """On every answer, whoever gives it."""

    async def safe_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            out = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                out.setdefault(name, value)
        await send(message)

    return safe_send


def request_id_of(given: str) -> str:
    """What the client gave where that is an id, or else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


class Shield:
    """Plain ASGI, so that it wraps streams and routing errors too."""

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int, meter: Meter, door: Door, read_s: float = READ_S
    ) -> None:
        self._app, self._meter, self._door = app, meter, door
        self._max_body_bytes, self._read_s = max_body_bytes, read_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers.get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id

        safe_send = with_safe_headers(send)
        began_s, status = time.perf_counter(), 0  # until an answer is begun

        async def send_shielded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await safe_send(message)

        try:
            # Who only looks at how it is may do so while it ends, too.
            with self._door.passed() if scope["method"] == "POST" else nullcontext():
                await self._pass_on(scope, receive, send_shielded, headers)
        except Exception as error:  # not a handler's: Starlette calls the one for Exception outside of this
            if status:
                status = 500  # too late to say so in the answer
                raise
            await problem_response(*problem_of(error, request_id))(scope, receive, send_shielded)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - began_s
            self._meter.answered(route=route, status=status or 499, seconds=seconds)  # 499: nobody waited

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        body_ahead = scope.pop(BODY_AHEAD, None)
        if body_ahead is not None:
            receive = ahead(body_ahead, receive)
        await self._app(scope, in_time(self._read_s, at_most(self._max_body_bytes, receive)), send)
