"""Answers that the proxy gives by itself: no replica sees the request, or none lived to answer it."""

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from serve.http.errors import problem_of, problem_response
from serve.telemetry import Meter

__all__ = ["answer_early"]

_ROUTES = ("/rewrite", "/rewrite/stream", "/rewrite/batch")


async def answer_early(
    error: Exception, meter: Meter, scope: Scope, receive: Receive, send: Send, *, seconds: float = 0.0
) -> None:
    """As a replica would: a problem document with the request's id, and counted."""
    request_id = Headers(scope=scope).get("x-request-id", "")
    body, headers = problem_of(error, request_id)
    route = scope["path"] if scope["path"] in _ROUTES else "other"  # labels of metrics have few values
    meter.answered(route=route, status=body.status, seconds=seconds)
    await problem_response(body, {**headers, "X-Request-Id": request_id})(scope, receive, send)
