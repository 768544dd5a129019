"""What Serve's own proxy answers when the ingress replica that had a request is gone.

Ray would send a bare 500. With `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.proxy:middlewares` in the
environment of every Ray node it is a problem document with Retry-After; `drsft serve` and the image set it.
"""

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import EngineUnavailable, problem_of, problem_response

__all__ = ["LostReplicas", "middlewares"]


def middlewares() -> list[Middleware]:
    """Called by Serve when it starts a proxy."""
    return [Middleware(LostReplicas)]


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
                # Every answer of ours has this header (serve/shield.py); the proxy's own has not.
                is_ours = "x-content-type-options" in Headers(raw=message["headers"])
                is_answered = is_ours or message["status"] != 503
            if is_answered:
                await send(message)

        await self._app(scope, watched_receive, watched_send)
        if not (is_answered or is_gone):
            request_id = Headers(scope=scope).get("x-request-id", "")  # Serve gives every request one
            body, headers = problem_of(EngineUnavailable(), request_id)
            await problem_response(body, {**headers, "X-Request-Id": request_id})(scope, receive, send)
