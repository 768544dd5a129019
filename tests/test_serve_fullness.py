"""A proxy that was told "full" says it by itself for a moment, and never longer."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.admission import Refused
from serve.fullness import RefusedBefore
from serve.meter import NoMeter
from serve.problems import problem_of, problem_response


class Replica:
    """Refuses as told, and counts what reaches it."""

    def __init__(self, refusal: Refused) -> None:
        self.refusal, self.num_asked, self.now_s = refusal, 0, 0.0
        routes = [Route(path, self._answer, methods=["POST"]) for path in ("/rewrite", "/rewrite/batch")]
        self.app = RefusedBefore(Starlette(routes=routes), meter=NoMeter, clock_s=lambda: self.now_s)

    async def _answer(self, request: Request) -> Response:
        self.num_asked += 1
        return problem_response(*problem_of(self.refusal, "of-the-replica"))

    async def ask(self, path: str = "/rewrite") -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(path, headers={"X-Request-Id": "mine"})


async def test_the_proxy_repeats_a_refusal_for_a_moment() -> None:
    replica = Replica(Refused("the service is full", 3, is_full=True))
    first, second = await replica.ask(), await replica.ask()
    assert replica.num_asked == 1
    assert (second.status_code, second.headers["Retry-After"]) == (429, "3")
    assert second.json()["detail"] == first.json()["detail"]
    assert second.json()["request_id"] == second.headers["X-Request-Id"] == "mine"
    replica.now_s = 0.06
    await replica.ask()
    assert replica.num_asked == 2


@pytest.mark.parametrize(
    ("refusal", "path"),
    [
        (Refused("key 'team' is past 60 requests a minute", 3), "/rewrite"),  # others may go on
        (Refused("the service is full", 3, is_full=True), "/rewrite/batch"),  # told problem by problem
    ],
)
async def test_what_does_not_hold_for_everybody_is_asked_again(refusal: Any, path: str) -> None:
    replica = Replica(refusal)
    await replica.ask(path)
    await replica.ask(path)
    assert replica.num_asked == 2
