"""What stands in Serve's own proxy, before any replica.

`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.proxy:middlewares` in the environment of every Ray node puts
it there; `drsft serve` and the image set it. Without it all works, but a bit slower, and a request whose
ingress replica died gets Ray's bare 500.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.fullness import RefusedBefore
from serve.problems import EngineUnavailable, problem_of, problem_response
from serve.shield import BODY_AHEAD, SafeHeaders

__all__ = ["BodyAhead", "LostReplicas", "middlewares"]

MOST_BYTES_AHEAD = 64 << 10


def middlewares() -> list[Middleware]:
    """Called by Serve when it starts a proxy; the last one is the outermost."""
    from serve.metrics import ServeMeter  # within Ray

    return [
        Middleware(BodyAhead),
        Middleware(LostReplicas),
        Middleware(RefusedBefore, meter=ServeMeter()),
        Middleware(SafeHeaders),
    ]


class BodyAhead:
    """Sends a small body along with its request: else the replica asks the proxy for it, a call more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if length.isascii() and length.isdigit() and int(length) <= MOST_BYTES_AHEAD:
            body, has_more = b"", True
            while has_more:
                message = await receive()
                if message["type"] != "http.request":
                    return  # the client went away
                body += message.get("body", b"")
                has_more = message.get("more_body", False)
            scope[BODY_AHEAD] = body
        await self._app(scope, receive, send)


class LostReplicas:
    """A request that ends without an answer, or with the proxy's own 503, is answered as other errors are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_answered = is_gone = False

        async def watched_receive() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_ours = "X-Content-Type-Options" in headers  # serve/shield.py puts it on every answer
                if is_ours:  # it has an id already, and Serve has added its own behind it
                    headers["X-Request-Id"] = headers["X-Request-Id"]
                is_answered = is_ours or message["status"] != 503
            if is_answered:
                await send(message)

        await self._app(scope, watched_receive, watched_send)
        if not (is_answered or is_gone):
            request_id = Headers(scope=scope).get("x-request-id", "")  # Serve gives every request one
            body, more = problem_of(EngineUnavailable(), request_id)
            await problem_response(body, {**more, "X-Request-Id": request_id})(scope, receive, send)
