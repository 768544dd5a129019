"""GET /openapi.json: what each route answers, under the media types that it really sends."""

from typing import Any

from fastapi import FastAPI

from serve.api import ErrorBody
from serve.http.errors import MEDIA_TYPE

__all__ = ["ERRORS", "DocumentedApp"]

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "content": {MEDIA_TYPE: {}}, "description": text}
    for status, text in {
        400: "not JSON",
        401: "no valid key",
        403: "without keys: not asked for by a loopback name",
        408: "the body did not come in time",
        409: "the Idempotency-Key belongs to another request",
        413: "the body is too large",
        422: "a field is missing, unknown, or past a limit",
        429: "full, or past the key's rate; see Retry-After",
        500: "a fault here",
        503: "no engine, or the service is ending; see Retry-After",
        504: "the deadline passed",
    }.items()
}


class DocumentedApp(FastAPI):
    """FastAPI puts every model under application/json, and beside it what else the route names."""

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
