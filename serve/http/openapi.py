"""GET /openapi.json: documents what each route returns, with the media types that it really sends."""

from typing import Any

from fastapi import FastAPI

from serve.api import ErrorBody
from serve.http.errors import MEDIA_TYPE

__all__ = ["ERRORS", "DocumentedApp"]

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "content": {MEDIA_TYPE: {}}, "description": text}
    for status, text in {
        400: "the body is not JSON",
        401: "the key is missing or not valid",
        403: "a service without keys answers only requests to localhost or a loopback address",
        408: "the body did not arrive in time",
        409: "the Idempotency-Key belongs to a different request",
        413: "the body is larger than `limits.body_bytes`",
        422: "a field is missing, unknown, of a wrong type, or past a limit; `errors` names it",
        429: "the service is full or the key is over its rate; retry after Retry-After seconds",
        500: "a fault of the service; its log has more under the request id",
        503: "no engine is available, or the service is draining; retry after Retry-After seconds",
        504: "the deadline passed before there was a result",
    }.items()
}


class DocumentedApp(FastAPI):
    """A FastAPI application whose schema lists only the media types that a route names."""

    def openapi(self) -> dict[str, Any]:
        page = super().openapi()
        for routes in page["paths"].values():
            for route in routes.values():
                for response in route["responses"].values():
                    _put_under_its_own_media_type(response.get("content", {}))
        return page


def _put_under_its_own_media_type(content: dict[str, dict[str, Any]]) -> None:
    named = content.keys() - {"application/json"}
    if named and "application/json" in content:
        documented = content.pop("application/json")
        for media_type in named:
            content[media_type] |= documented
