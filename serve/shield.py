"""What stands before every route: request ids, body limits, and headers that keep a browser from harm."""

import re
import secrets
import time
from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.door import Door, Ending
from serve.meter import Meter
from serve.problems import problem_of, problem_response

__all__ = ["BODY_AHEAD", "SafeHeaders", "Shield"]

BODY_AHEAD = "drsft.body"  # of the scope: the whole body, where the proxy sent it along (serve/proxy.py)

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


class SafeHeaders:
    """On every answer, whoever gives it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _with_safe_headers(send))


def _with_safe_headers(send: Send) -> Send:
    async def safe_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            out = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                out.setdefault(name, value)
        await send(message)

    return safe_send


class Shield:
    """Plain ASGI, so that it wraps streams and routing errors too."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, meter: Meter, door: Door) -> None:
        self._app, self._max_body_bytes, self._meter, self._door = app, max_body_bytes, meter, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        safe_send = _with_safe_headers(send)
        began_s, status = time.perf_counter(), 499  # unless an answer is begun: nobody waited for it

        async def send_shielded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await safe_send(message)

        try:
            # Who only looks at how it is may do so while it ends, too.
            with self._door.passed() if scope["method"] == "POST" else nullcontext():
                await self._pass_on(scope, receive, send_shielded, headers, request_id)
        except Ending as error:
            await problem_response(*problem_of(error, request_id))(scope, receive, send_shielded)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._meter.answered(route=route, status=status, seconds=time.perf_counter() - began_s)

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, request_id: str
    ) -> None:
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._max_body_bytes:
            body, more = problem_of(self._too_large(), request_id)
            await problem_response(body, {**more, "Connection": "close"})(scope, receive, send)
            return
        body_ahead = scope.pop(BODY_AHEAD, None)
        if body_ahead is not None:
            receive = _ahead(body_ahead, receive)
        await self._app(scope, self._counted(receive), send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body has more than {self._max_body_bytes} bytes")

    def _counted(self, receive: Receive) -> Receive:
        """For bodies that do not say how long they are."""
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            if message["type"] == "http.request":
                num_bytes += len(message.get("body", b""))
                if num_bytes > self._max_body_bytes:
                    raise self._too_large()
            return message

        return receive_counted


def _ahead(body: bytes, receive: Receive) -> Receive:
    """The body, then whatever comes after it: the client's leaving."""
    is_read = False

    async def receive_ahead() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_ahead
