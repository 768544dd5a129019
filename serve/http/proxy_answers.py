"""Responses that the proxy sends by itself, because no replica received the request or the replica died."""

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from serve.http.errors import error_document, error_response
from serve.service_metrics import ServiceMetrics

__all__ = ["reject_in_proxy"]

_ROUTES = ("/rewrite", "/rewrite/stream", "/rewrite/batch")


async def reject_in_proxy(
    error: Exception,
    metrics: ServiceMetrics,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    seconds: float = 0.0,
) -> None:
    """Sends the response for an error as a replica would, with the request's id, and counts it.

    `seconds` is how long the request took until then.
    """
    request_id = Headers(scope=scope).get("x-request-id", "")
    body, headers = error_document(error, request_id)
    route = scope["path"] if scope["path"] in _ROUTES else "other"  # labels of metrics have few values
    metrics.answered(route=route, status=body.status, seconds=seconds)
    await error_response(body, {**headers, "X-Request-Id": request_id})(scope, receive, send)
