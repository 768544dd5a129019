"""Rejects requests in the proxy while the service is full.

An ingress replica rejects a request within half a millisecond, but the way through Ray Serve and back costs
ten times that and takes processor time from admitted requests. So the proxy learns from each rejection how
many requests are too many, and rejects requests itself while that many are in flight.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import FULL
from serve.http.proxy_answers import reject_in_proxy
from serve.limits.admission import Rejected
from serve.service_metrics import ServiceMetrics

__all__ = ["LearntLimit", "OverloadGuard"]

# Between two attempts above the limit; each costs one slow rejection while the service is full.
GROWTH_S = 0.5
FORGET_S = 1.0  # without any refusal

_ROUTES = ("/rewrite", "/rewrite/stream")  # a batch reports rejections problem by problem


@dataclass(slots=True)
class LearntLimit:
    """`most` is the number of requests in flight at which one more was rejected; None until that happens.

    Requests differ in size and other proxies send some too, so a limit is not valid for long: one more
    request is let through, then two, four, ... until one of them is rejected again. A second without any
    rejection removes the limit.
    """

    clock_s: Callable[[], float]
    num_in_flight: int = 0
    most: int | None = None
    _step: int = 1
    _grows_s: float = 0.0
    _refused_s: float = 0.0

    def has_room(self) -> bool:
        now_s = self.clock_s()
        if now_s - self._refused_s >= FORGET_S:
            self.most = None
        if self.most is None or self.num_in_flight < self.most:
            return True
        if now_s >= self._grows_s:
            self.most = self.num_in_flight + self._step
            self._step, self._grows_s = 2 * self._step, now_s + GROWTH_S
            return True
        self._refused_s = now_s
        return False

    def learn(self, num_others: int) -> None:
        """Records that an ingress replica rejected a request while `num_others` others were in flight."""
        most = max(num_others, 1)
        self.most = most if self.most is None else min(most, self.most)
        now_s = self.clock_s()
        self._step, self._grows_s, self._refused_s = 1, now_s + GROWTH_S, now_s


class OverloadGuard:
    """The ASGI middleware of one proxy that rejects requests over the learnt limit."""

    def __init__(
        self, app: ASGIApp, *, metrics: ServiceMetrics, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._metrics = app, metrics
        self._limit = LearntLimit(clock_s)
        self._retry_after_s = 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _ROUTES or scope["method"] != "POST":
            await self._app(scope, receive, send)
        # Only the ingress knows which pages of other origins may read a response.
        elif "origin" in Headers(scope=scope) or self._limit.has_room():
            await self._pass_on(scope, receive, send)
        else:
            await self._reject(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_others = self._limit.num_in_flight
        self._limit.num_in_flight += 1
        is_in_flight = True

        def finish() -> None:
            nonlocal is_in_flight
            self._limit.num_in_flight -= is_in_flight
            is_in_flight = False

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 429:
                headers = MutableHeaders(scope=message)
                if FULL in headers:
                    self._limit.learn(num_others)
                    self._retry_after_s = int(headers["Retry-After"])
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                finish()  # before the client gets it: its next request may arrive before Serve is done
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            finish()

    async def _reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.rejected("full")
        rejected = Rejected("the service is full", self._retry_after_s, is_full=True)
        await reject_in_proxy(rejected, self._metrics, scope, receive, send)
