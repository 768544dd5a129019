"""A replica that is to end: who is inside is answered, nobody else is let in."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serve.http.draining import DrainGate, Draining
from serve.http.middleware import RequestGuard
from serve.service_metrics import NoMetrics


async def test_who_is_inside_is_answered_and_nobody_else_is_let_in() -> None:
    gate, is_inside, may_go = DrainGate(), asyncio.Event(), asyncio.Event()

    async def work(request: Request) -> Response:
        is_inside.set()
        await may_go.wait()
        return PlainTextResponse("done")

    async def look(request: Request) -> Response:
        return PlainTextResponse("here")

    routes = [Route("/work", work, methods=["POST"]), Route("/look", look)]
    app = RequestGuard(Starlette(routes=routes), max_body_bytes=1024, metrics=NoMetrics(), gate=gate)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        under_way = asyncio.create_task(client.post("/work"))
        await is_inside.wait()
        assert gate.close() == 1
        refused = await client.post("/work")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert refused.headers["X-Request-Id"] == refused.json()["request_id"]
        assert (await client.get("/look")).text == "here"
        may_go.set()
        assert (await under_way).text == "done"
    assert gate.close() == 0


def test_a_closed_door_says_so() -> None:
    gate = DrainGate()
    gate.check()
    gate.close()
    with pytest.raises(Draining):
        gate.check()
