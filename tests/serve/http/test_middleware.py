"""What stands before the routes: faults that nobody foresaw, bodies that do not come, headers of others."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.bodies import in_time
from serve.http.draining import DrainGate
from serve.http.middleware import RequestGuard
from serve.ray.proxy import BodyPrefetch, CleanHeaders, LostReplicaErrors
from tests.support.serve import Answers


async def post(app: ASGIApp, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        return await client.post("/rewrite", **options)


def shield(app: ASGIApp, metrics: Answers, **options: Any) -> RequestGuard:
    return RequestGuard(app, max_body_bytes=1024, metrics=metrics, gate=DrainGate(), **options)


async def test_a_fault_before_the_answer_is_a_problem_document_with_the_headers_of_every_answer() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("inside")

    metrics = Answers()
    answer = await post(shield(fails, metrics), headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "mine"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "inside" not in answer.text
    assert metrics.counted == [("other", 500)]


async def test_a_fault_in_the_midst_of_an_answer_breaks_it_off_and_is_counted() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    metrics = Answers()
    with pytest.raises(RuntimeError):
        await post(shield(fails, metrics))
    assert metrics.counted == [("other", 500)]


async def test_a_client_that_left_before_its_answer_is_no_fault() -> None:
    async def is_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    metrics = Answers()
    with pytest.raises(asyncio.CancelledError):
        await post(shield(is_cancelled, metrics))
    assert metrics.counted == [("other", 499)]


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def drips() -> Message:
    await asyncio.sleep(0)
    return {"type": "http.request", "body": b"", "more_body": True}


async def reads(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(await Request(scope, receive).body())(scope, receive, send)


@pytest.mark.parametrize("receive", [never, drips])
@pytest.mark.parametrize("is_ahead", [False, True])
async def test_a_body_that_does_not_come_is_given_up_and_its_connection_closed(
    receive: Receive, is_ahead: bool
) -> None:
    metrics = Answers()
    app: ASGIApp = (
        BodyPrefetch(reads, metrics=metrics, read_s=0.01) if is_ahead else shield(reads, metrics, read_s=0.01)
    )
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-length", b"5"), (b"x-request-id", b"mine")]
    scope = {"type": "http", "method": "POST", "path": "/rewrite", "headers": headers}
    await app(scope, receive, send)
    told = Headers(raw=sent[0]["headers"])
    assert sent[0]["status"] == 408
    assert (told["Connection"], told["X-Request-Id"]) == ("close", "mine")
    assert told["Content-Type"] == "application/problem+json"
    assert [status for _, status in metrics.counted] == [408]


async def test_behind_the_body_a_client_may_stay_as_long_as_it_likes() -> None:
    leaves = asyncio.Event()
    messages = [{"type": "http.request", "body": b"x"}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await leaves.wait()
        return {"type": "http.disconnect"}

    receive_in_time = in_time(0.0, receive)
    await receive_in_time()
    leaving = asyncio.ensure_future(receive_in_time())
    for _ in range(3):  # a limit of no time would be over after one
        await asyncio.sleep(0)
    leaves.set()
    assert (await leaving)["type"] == "http.disconnect"


async def cleaned(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What comes through of a request's headers."""
    seen: list[tuple[bytes, bytes]] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])
        await Response()(scope, receive, send)

    answer = await post(CleanHeaders(look), headers=list(headers))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return seen


@pytest.mark.parametrize("given", [[b""], [b"no good"], [b"\xff"], [b"x" * 65], [b"\xff", b"mine"], []])
async def test_a_request_has_one_well_formed_id(given: list[bytes]) -> None:
    [request_id] = [
        value
        for name, value in await cleaned(*((b"X-Request-Id", one) for one in given))
        if name == b"x-request-id"
    ]
    assert request_id not in given
    assert len(bytes.fromhex(request_id.decode())) == 8


async def test_a_good_id_is_kept() -> None:
    assert (b"x-request-id", b"mine_1") in await cleaned((b"X-Request-Id", b"mine_1"))


@pytest.mark.parametrize(
    "name",
    [
        b"X-Request-Timeout-Seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"Serve-Multiplexed-Model-Id",
        b"x-session-id",
        b"x_session_id",
    ],
)
async def test_what_serve_would_obey_does_not_come_in_and_the_rest_does(name: bytes) -> None:
    names = [one.lower() for one, _ in await cleaned((name, b"\xff"), (b"Last-Event-ID", b"a.1"))]
    assert name.lower() not in names
    assert b"last-event-id" in names


async def test_a_request_that_lost_its_replica_is_counted_by_the_proxy() -> None:
    async def says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    metrics = Answers()
    answer = await post(CleanHeaders(LostReplicaErrors(says_nothing, metrics=metrics)))
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] != ""
    assert metrics.counted == [("/rewrite", 503)]
