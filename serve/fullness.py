"""A service that is full says so from its proxy, before a request has cost it anything.

An ingress replica refuses in half a millisecond of its own, but Serve's way to it and back costs ten times
that, and takes it from the requests that were let in. So after a refusal the proxy gives the same answer by
itself for a moment.
"""

import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.admission import Refused
from serve.meter import Meter
from serve.problems import FULL, problem_of, problem_response

__all__ = ["RefusedBefore"]

_MOMENT_S = 0.05  # a place that becomes free stays empty for so long at most
_ROUTES = ("/rewrite", "/rewrite/stream")  # a batch is told problem by problem


class RefusedBefore:
    """Of one proxy. `meter` is asked for one at the first refusal."""

    def __init__(
        self, app: ASGIApp, *, meter: Callable[[], Meter], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._clock_s, self._make_meter = app, clock_s, meter
        self._meter: Meter | None = None
        self._until_s, self._retry_after_s = 0.0, 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _ROUTES or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._clock_s() < self._until_s:
            await self._refuse(scope, receive, send)
            return

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 429:
                headers = MutableHeaders(scope=message)
                if FULL in headers:
                    self._until_s = self._clock_s() + _MOMENT_S
                    self._retry_after_s = int(headers["Retry-After"])
            await send(message)

        await self._app(scope, receive, watched_send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._meter is None:
            self._meter = self._make_meter()
        self._meter.refused("full")
        self._meter.answered(route=scope["path"], status=429, seconds=0)
        refused = Refused("the service is full", self._retry_after_s, is_full=True)
        request_id = Headers(scope=scope).get("x-request-id", "")
        body, headers = problem_of(refused, request_id)
        await problem_response(body, {**headers, "X-Request-Id": request_id})(scope, receive, send)
