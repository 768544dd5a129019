"""Converts every error to a problem document (RFC 9457) with a request id and no internal details."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.api import ErrorBody
from serve.http.draining import Draining
from serve.http.idempotency import IdempotencyConflict
from serve.limits.admission import Rejected
from serve.service import Unacceptable

__all__ = [
    "FULL",
    "MEDIA_TYPE",
    "EngineUnavailable",
    "Unauthorised",
    "error_document",
    "error_response",
    "install_error_handlers",
]

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# A body may have ten thousand fields that are not known, each with a name of any length.
MOST_FAULTS = 20
MOST_NAME_CHARS = 80
FULL = "X-Drsft-Full"  # header of a 429 that does not depend on the caller


class Unauthorised(Exception):  # noqa: N818 - a response, not an error
    pass


class EngineUnavailable(Exception):  # noqa: N818 - a response, not an error
    """No engine or scorer responds, or a request was lost with one engine and then with a second one (503).

    If all engines respond but are full, Rejected is raised instead (429).
    """


def error_document(error: BaseException, request_id: str) -> tuple[ErrorBody, dict[str, str]]:
    """Returns the problem document that the client gets for an error, and the response's additional headers.

    An unexpected error becomes a 500 without its cause, which is only logged.
    """
    match error:
        case Unauthorised():
            return _body(401, "give a valid key: Authorization: Bearer KEY", request_id), {
                "WWW-Authenticate": "Bearer"
            }
        case Rejected():
            detail = f"{error}; try again in {error.retry_after_s} s"
            full = {FULL: "1"} if error.is_full else {}
            return _body(429, detail, request_id), {"Retry-After": str(error.retry_after_s), **full}
        case IdempotencyConflict():
            return _body(409, str(error), request_id), {}
        case Unacceptable():
            errors = ({"field": error.field, "message": str(error)},)
            return _body(422, f"{error.field}: {error}", request_id, errors), {}
        case TimeoutError():
            return _body(504, "the deadline passed before there was a result", request_id), {}
        case EngineUnavailable():
            return _body(503, "no engine is available; try again in 5 s", request_id), {"Retry-After": "5"}
        case Draining():
            return _body(503, "the service is draining; try again in 5 s", request_id), {"Retry-After": "5"}
        case RequestValidationError():
            faults = tuple(map(_field_error, error.errors()[:MOST_FAULTS]))
            first = faults[0] if faults else {"field": "body", "message": "invalid"}
            return _body(422, f"{first['field']}: {first['message']}", request_id, faults), {}
        case HTTPException():
            headers = dict(error.headers or {})
            return _body(error.status_code, str(error.detail), request_id), headers
        case _:
            _log.error("request %s failed", request_id, exc_info=error)
            return _body(500, "internal error; search the service's log for the request id", request_id), {}


def error_response(body: ErrorBody, headers: Mapping[str, str]) -> Response:
    content = body.model_dump_json()
    return Response(content, status_code=body.status, headers=dict(headers), media_type=MEDIA_TYPE)


def install_error_handlers(app: FastAPI) -> None:
    """Installs handlers for expected errors; serve/http/middleware.py handles the rest."""

    async def handle(request: Request, error: Exception) -> Response:
        return error_response(*error_document(error, request.state.request_id))

    foreseen = (
        Unauthorised,
        Rejected,
        IdempotencyConflict,
        Unacceptable,
        TimeoutError,
        EngineUnavailable,
        Draining,
    )
    for kind in (*foreseen, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


def _body(status: int, detail: str, request_id: str, errors: Sequence[dict[str, Any]] = ()) -> ErrorBody:
    return ErrorBody(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
        errors=tuple(errors),
    )


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    """Returns which field is wrong and why, without its value, which may be secret or megabytes long."""
    location = [str(part) for part in error["loc"] if part != "body"]
    return {"field": _shortened(".".join(location)) or "body", "message": str(error["msg"])}


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_NAME_CHARS else f"{name[: MOST_NAME_CHARS - 1]}…"
