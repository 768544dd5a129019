"""A proxy learns from refusals how many requests are too many, refuses the rest by itself, and forgets."""

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.http.errors import error_document, error_response
from serve.limits.admission import Rejected
from serve.limits.overload import FORGET_S, GROWTH_S, LearntLimit, OverloadGuard
from serve.service_metrics import NoMetrics

FULL = Rejected("the service is full", 3, is_full=True)


class Replica:
    """Has room for some requests, which stay until they are let go; refuses the rest."""

    def __init__(self, refusal: Rejected = FULL, room: int = 0) -> None:
        self.refusal, self.room, self.num_asked, self.num_inside, self.now_s = refusal, room, 0, 0, 0.0
        self.let_go, self.is_full = asyncio.Event(), asyncio.Event()
        paths = ("/rewrite", "/rewrite/batch")
        routes = [Route(path, self._answer, methods=["POST"]) for path in paths]
        self.app = OverloadGuard(Starlette(routes=routes), metrics=NoMetrics(), clock_s=lambda: self.now_s)

    async def _answer(self, request: Request) -> Response:
        self.num_asked += 1
        if self.num_inside >= self.room:
            return error_response(*error_document(self.refusal, "of-the-replica"))
        self.num_inside += 1
        if self.num_inside == self.room:
            self.is_full.set()
        await self.let_go.wait()
        self.num_inside -= 1
        return Response()

    async def ask(self, path: str = "/rewrite", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(path, headers={"X-Request-Id": "mine", **headers})

    async def fill(self) -> list[asyncio.Task[httpx.Response]]:
        inside = [asyncio.create_task(self.ask()) for _ in range(self.room)]
        await self.is_full.wait()
        return inside


async def test_the_proxy_repeats_a_refusal_while_as_many_are_under_way() -> None:
    replica = Replica(room=2)
    inside = await replica.fill()
    first, second = await replica.ask(), await replica.ask()
    assert replica.num_asked == 3
    assert (second.status_code, second.headers["Retry-After"]) == (429, "3")
    assert second.json()["detail"] == first.json()["detail"]
    assert second.json()["request_id"] == second.headers["X-Request-Id"] == "mine"
    replica.let_go.set()
    assert [one.status_code for one in await asyncio.gather(*inside)] == [200, 200]
    assert (await replica.ask()).status_code == 200  # the moment that there is room


async def test_who_has_an_answer_is_no_longer_under_way_whatever_serve_still_does() -> None:
    replica = Replica(room=1)
    is_done = asyncio.Event()
    inner = replica.app._app

    async def slow_to_end(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)
        await is_done.wait()

    replica.app._app = slow_to_end
    answered: list[dict[str, Any]] = []
    is_answered = asyncio.Event()

    async def send(message: Any) -> None:
        answered.append(message)
        if message["type"] == "http.response.body":
            is_answered.set()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/rewrite", "headers": [], "query_string": b""}
    replica.let_go.set()
    first = asyncio.create_task(replica.app(scope, receive, send))
    await is_answered.wait()
    assert not first.done()
    assert replica.app._limit.num_in_flight == 0
    is_done.set()
    await first
    assert replica.app._limit.num_in_flight == 0
    assert answered[0]["status"] == 200


async def test_the_limit_is_tried_again_and_forgotten() -> None:
    replica = Replica(room=1)
    inside = await replica.fill()
    await replica.ask()
    replica.now_s = GROWTH_S
    assert [(await replica.ask()).status_code for _ in range(5)] == [429] * 5
    assert replica.num_asked == 3  # one of the five tried
    replica.now_s = GROWTH_S + FORGET_S
    await replica.ask()
    assert replica.num_asked == 4
    replica.let_go.set()
    await asyncio.gather(*inside)


async def test_a_page_elsewhere_is_always_answered_by_the_ingress() -> None:
    replica = Replica()
    for _ in range(3):
        await replica.ask(Origin="https://notes.example")
    assert replica.num_asked == 3


@pytest.mark.parametrize(
    ("refusal", "path"),
    [
        (Rejected("key 'team' is over its limit of 60 requests a minute", 3), "/rewrite"),  # others may go on
        (FULL, "/rewrite/batch"),  # told problem by problem
    ],
)
async def test_what_does_not_hold_for_everybody_is_asked_again(refusal: Any, path: str) -> None:
    replica = Replica(refusal)
    inside = await replica.ask(path), await replica.ask(path)
    assert [one.status_code for one in inside] == [429, 429]
    assert replica.num_asked == 2


@given(room=st.integers(1, 200), learnt=st.integers(0, 200))
def test_a_limit_that_is_far_too_low_is_left_within_seconds(room: int, learnt: int) -> None:
    """Requests that never end come all the time: `room` of them are inside soon, whatever was learnt."""
    now_s = 0.0
    limit = LearntLimit(lambda: now_s)
    limit.num_in_flight = min(learnt, room)
    limit.learn(learnt)
    for tick in range(1, 500):
        now_s = tick / 100
        for _ in range(10):
            if limit.has_room():
                if limit.num_in_flight < room:
                    limit.num_in_flight += 1
                else:
                    limit.learn(room)
    assert limit.num_in_flight == room


@given(room=st.integers(1, 200))
def test_few_are_refused_slowly_while_the_service_stays_full(room: int) -> None:
    now_s, num_slow = 0.0, 0
    limit = LearntLimit(lambda: now_s)
    limit.num_in_flight = room
    limit.learn(room)
    for tick in range(1, 1000):
        now_s = tick / 100
        for _ in range(5):
            if limit.has_room():
                num_slow += 1
                limit.learn(room)
    assert num_slow <= 10 / GROWTH_S
