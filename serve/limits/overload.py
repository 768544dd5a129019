"""A service that is full says so from its proxy, before a request has cost it anything.

An ingress replica refuses in half a millisecond of its own, but Serve's way to it and back costs ten times
that, and takes it from the requests that were let in. So the proxy learns from each refusal how many requests
are too many, and gives the same answer by itself where there are as many under way.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import FULL
from serve.http.proxy_answers import answer_early
from serve.limits.admission import Refused
from serve.telemetry import Meter

__all__ = ["LearntLimit", "RefusedBefore"]

GROWTH_S = 0.5  # between two tries of more than the limit: one slow refusal each while the service is full
FORGET_S = 1.0  # without any refusal

_ROUTES = ("/rewrite", "/rewrite/stream")  # a batch is told problem by problem


@dataclass(slots=True)
class LearntLimit:
    """The number of requests beside which one more was refused; None until that happens.

    Requests are of different sizes and other proxies send some too, so a limit is never right for long: it
    is tried with one more, then two, four, ... until one of them is refused again.
    """

    clock_s: Callable[[], float]
    num_under_way: int = 0
    most: int | None = None
    _step: int = 1
    _grows_s: float = 0.0
    _refused_s: float = 0.0

    def has_room(self) -> bool:
        now_s = self.clock_s()
        if now_s - self._refused_s >= FORGET_S:
            self.most = None
        if self.most is None or self.num_under_way < self.most:
            return True
        if now_s >= self._grows_s:
            self.most = self.num_under_way + self._step
            self._step, self._grows_s = 2 * self._step, now_s + GROWTH_S
            return True
        self._refused_s = now_s
        return False

    def learn(self, num_others: int) -> None:
        """An ingress refused a request that found so many others under way."""
        most = max(num_others, 1)
        self.most = most if self.most is None else min(most, self.most)
        now_s = self.clock_s()
        self._step, self._grows_s, self._refused_s = 1, now_s + GROWTH_S, now_s


class RefusedBefore:
    """Of one proxy."""

    def __init__(self, app: ASGIApp, *, meter: Meter, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._app, self._meter = app, meter
        self._limit = LearntLimit(clock_s)
        self._retry_after_s = 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _ROUTES or scope["method"] != "POST":
            await self._app(scope, receive, send)
        # Which pages elsewhere may read an answer, only the ingress knows.
        elif "origin" in Headers(scope=scope) or self._limit.has_room():
            await self._pass_on(scope, receive, send)
        else:
            await self._refuse(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_others = self._limit.num_under_way
        self._limit.num_under_way += 1
        is_under_way = True

        def leave() -> None:
            nonlocal is_under_way
            self._limit.num_under_way -= is_under_way
            is_under_way = False

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 429:
                headers = MutableHeaders(scope=message)
                if FULL in headers:
                    self._limit.learn(num_others)
                    self._retry_after_s = int(headers["Retry-After"])
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                leave()  # before the client has it, whose next request may be here sooner than Serve is done
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            leave()

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._meter.refused("full")
        refused = Refused("the service is full", self._retry_after_s, is_full=True)
        await answer_early(refused, self._meter, scope, receive, send)
