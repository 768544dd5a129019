"""Replicas that are lost: what is asked again, and what a client is told."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from drsft.policy.fake import text_completion
from drsft.records import Completion, Sampling
from serve.http.draining import DrainGate
from serve.http.errors import EngineUnavailable
from serve.http.middleware import RequestGuard
from serve.limits.admission import Rejected
from serve.ray.proxy import BodyPrefetch, LostReplicaErrors
from serve.ray.remote_engines import RemotePolicy, RemoteScorer
from serve.service_metrics import NoMetrics

OURS = {"X-Content-Type-Options": "nosniff", "X-Request-Id": "abc"}
SAMPLING = Sampling(num_samples=1, temperature=1.0, max_tokens=8, seed=5)


class Call:
    """What Serve gives for a call: an answer to wait for, or a stream, that can be cancelled."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.is_cancelled = False

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> list[Completion]:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return [self._outcome]

    async def __aiter__(
        self,
    ) -> AsyncIterator[tuple[list[tuple[int, tuple[int, ...]]], list[Completion] | None]]:
        yield [(0, (7,))], None
        yield [], await self._answer()

    def cancel(self) -> None:
        self.is_cancelled = True


class Engines:
    """A deployment's handle: each call has the next of the outcomes."""

    def __init__(self, *outcomes: Any) -> None:
        self._outcomes = list(outcomes)
        self.asked: list[tuple[Any, ...]] = []
        self.generate = self.stream = self.mean_phi = self

    def options(self, *, stream: bool) -> "Engines":
        return self

    def remote(self, *arguments: Any) -> Call:
        self.asked.append(arguments)
        return Call(self._outcomes.pop(0))


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_request_that_lost_its_engine_is_asked_once_more_with_the_same_seed(
    is_streamed: bool,
) -> None:
    engines = Engines(RayActorError(), text_completion("two"))
    heard: list[tuple[int, tuple[int, ...]]] = []
    on_tokens = (lambda index, ids: heard.append((index, ids))) if is_streamed else None
    completions = await RemotePolicy(engines).generate([1, 2], SAMPLING, on_tokens=on_tokens)  # type: ignore[arg-type]
    assert [one.text for one in completions] == ["two"]
    assert engines.asked == [([1, 2], SAMPLING)] * 2
    assert heard == ([(0, (7,))] if is_streamed else [])


async def test_a_request_that_lost_two_engines_is_told_so() -> None:
    engines = Engines(RayActorError(), RayActorError())
    with pytest.raises(EngineUnavailable):
        await RemotePolicy(engines).generate([1], SAMPLING)  # type: ignore[arg-type]


async def test_engines_and_scorers_that_have_a_full_queue_are_refusals() -> None:
    full = Engines(BackPressureError(1, 1), BackPressureError(1, 1))
    with pytest.raises(Rejected):
        await RemotePolicy(full).generate([1], SAMPLING)  # type: ignore[arg-type]
    with pytest.raises(Rejected):
        await RemoteScorer(full).mean_phi([1], [[2]])  # type: ignore[arg-type]


async def ask(app: ASGIApp) -> httpx.Response:
    transport = httpx.ASGITransport(LostReplicaErrors(app, metrics=NoMetrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.post("/rewrite", headers={"X-Request-Id": "mine"})


async def says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """As Serve's proxy does when the replica died that had the request."""


@pytest.mark.parametrize("app", [says_nothing, PlainTextResponse("No replicas.", 503)])
async def test_what_the_proxy_cannot_answer_is_a_problem_document_with_a_time_to_come_again(
    app: ASGIApp,
) -> None:
    answer = await ask(app)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == "mine"
    assert "replicas" not in answer.text


@pytest.mark.parametrize("status", [200, 429, 503])
async def test_our_own_answers_pass_as_they_are(status: int) -> None:
    ours = Response(
        "ours", status, headers={"X-Content-Type-Options": "nosniff", "X-Request-Id": "a", "Retry-After": "9"}
    )
    answer = await ask(ours)
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (status, "ours", "9")


async def test_an_answer_has_one_request_id() -> None:
    async def answers_with_two(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in OURS.items()]
        headers.append((b"x-request-id", b"of Serve"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    assert (await ask(answers_with_two)).headers.get_list("X-Request-Id") == ["abc"]


@pytest.mark.parametrize("size", [0, 10, 200_000])
async def test_a_body_arrives_as_it_was_sent_whether_it_went_ahead_or_not(size: int) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(await Request(scope, receive).body())(scope, receive, send)

    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    shield = RequestGuard(echo, max_body_bytes=1 << 20, metrics=NoMetrics(), gate=DrainGate())
    app = BodyPrefetch(shield, metrics=NoMetrics())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.post("/", content=body)).content == body


async def test_a_body_past_the_limit_is_refused_also_where_it_went_ahead() -> None:
    shield = RequestGuard(Response("in"), max_body_bytes=1024, metrics=NoMetrics(), gate=DrainGate())
    app = BodyPrefetch(shield, metrics=NoMetrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.post("/", content=b"x" * 1025)).status_code == 413
