"""Clients that go away, engines that are gone, and what the log keeps to itself."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from drsft.policy.prompts import Prompter
from drsft.verify.pool import VerifierPool
from serve.http.backend import Backend
from serve.http.errors import EngineUnavailable
from serve.http.routes import make_app
from serve.limits.keys import make_key
from tests.support.serve import Policy, make_backend, make_service

ASK = {"problem": "1 + 1?", "reference": "2", "expert_solution": "It is \\boxed{2}.", "seed": 3}


@pytest.fixture
def policy() -> Policy:
    policy = Policy()
    policy.released.clear()
    return policy


@pytest.fixture
def make(policy: Policy, prompter: Prompter, verifier: VerifierPool) -> Callable[..., FastAPI]:
    return lambda **changes: make_service(policy, prompter, verifier, **changes)


@dataclass
class Client:
    """One request as a server passes it on, whose client can go away."""

    app: FastAPI
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Message] = field(default_factory=list)

    async def post(self, route: str, body: dict[str, Any], **headers: str) -> "Client":
        path, _, query = route.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "query_string": query.encode(),
            "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")]
            + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.app(scope, receive, send)
        return self

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - everything that is waited for happens in this loop
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("route", "body", "num_calls"),
    [
        ("/rewrite", ASK, 1),
        ("/rewrite/stream", ASK, 1),
        ("/rewrite/batch", {"problems": [{**ASK, "seed": seed} for seed in range(3)]}, 3),
    ],
)
async def test_a_client_that_goes_away_ends_its_sampling_and_makes_room(
    make: Any, policy: Policy, route: str, body: dict[str, Any], num_calls: int
) -> None:
    app = make(limits={"tokens_in_flight": 1000})
    client = Client(app)
    request = asyncio.create_task(client.post(route, body))
    await until(lambda: policy.num_calls == num_calls)
    client.gone.set()
    await request
    await until(lambda: policy.num_cancelled == num_calls)
    policy.released.set()
    answer = await Client(app).post("/rewrite", {**ASK, "seed": 99})
    assert answer.sent[0]["status"] == 200


async def test_a_resumable_stream_goes_on_alone_and_is_taken_up_in_its_midst(
    make: Any, policy: Policy
) -> None:
    app = make()
    first = Client(app)
    request = asyncio.create_task(first.post("/rewrite/stream?resumable=true", ASK))
    await policy.started.wait()
    await until(lambda: first.text.count("event: attempt") == 2)
    first.gone.set()
    await request
    assert policy.num_cancelled == 0
    last_id = first.text.rstrip().split("\n\n")[-1].split("\n")[0].removeprefix("id: ")
    second = Client(app)
    rest = asyncio.create_task(second.post("/rewrite/stream?resumable=true", ASK, last_event_id=last_id))
    await asyncio.sleep(0)
    policy.released.set()
    await rest
    kinds = [line for line in second.text.split("\n") if line.startswith("event: ")]
    assert kinds[-1] == "event: result"
    assert "event: attempt" not in kinds  # those were seen
    assert policy.num_calls == 1


async def test_a_stream_that_was_not_to_be_taken_up_again_is_not_kept(make: Any, policy: Policy) -> None:
    policy.released.set()
    app = make()
    await Client(app).post("/rewrite/stream", ASK, x_request_id="mine")
    again = await Client(app).post("/rewrite/stream", ASK, last_event_id="mine.1")
    assert again.sent[0]["status"] == 404


@pytest.fixture
def backend(policy: Policy, prompter: Prompter, verifier: VerifierPool) -> Backend:
    return make_backend(policy, prompter, verifier)


async def test_a_resumable_stream_that_nobody_comes_back_to_is_ended(
    backend: Backend, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.http.streams.ALONE_S", 0.0)
    app = make_app(backend)
    first = Client(app)
    request = asyncio.create_task(first.post("/rewrite/stream?resumable=true", ASK))
    await until(lambda: first.text.count("event: attempt") == 2)
    first.gone.set()
    await request
    await until(lambda: policy.num_cancelled == 1 and not backend.tasks)
    last_id = first.text.rstrip().split("\n\n")[-1].split("\n")[0].removeprefix("id: ")
    again = await Client(app).post("/rewrite/stream?resumable=true", ASK, last_event_id=last_id)
    assert again.sent[0]["status"] == 404


async def test_a_stream_whose_reader_has_left_before_it_begins_is_ended(
    backend: Backend, policy: Policy
) -> None:
    client = Client(make_app(backend))
    client.gone.set()
    await client.post("/rewrite/stream", ASK)
    await until(lambda: policy.num_cancelled == 1 and not backend.tasks)


async def test_a_stream_that_is_cut_off_before_its_first_event_is_ended(
    backend: Backend, policy: Policy
) -> None:
    """One that joined another request has no events before that one's end."""
    app = make_app(backend)
    first = asyncio.create_task(Client(app).post("/rewrite", ASK))
    await policy.started.wait()
    second = asyncio.create_task(Client(app).post("/rewrite/stream", ASK))
    await until(lambda: len(backend.tasks) == 1)
    second.cancel()  # as Serve does when the client goes away
    await until(lambda: not backend.tasks)
    policy.released.set()
    assert (await first).sent[0]["status"] == 200
    assert policy.num_calls == 1


async def no_engine() -> int:
    raise EngineUnavailable


async def test_without_an_engine_the_deadline_is_a_503_and_nothing_is_ready(make: Any) -> None:
    app = make(num_pending=no_engine)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        late = await client.post("/rewrite", json={**ASK, "deadline_s": 1})
        ready = await client.get("/readyz")
    for answer in (late, ready):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1


async def test_neither_prompts_nor_keys_stand_in_the_log(
    make: Any, policy: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(seed: int) -> str:
        raise RuntimeError("a fault")

    caplog.set_level(logging.INFO)
    policy.answer = fail
    policy.released.set()
    secret, line = make_key("team")
    (tmp_path / "keys").write_text(line)
    app = make(access={"keys_file": str(tmp_path / "keys")})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        statuses = []
        for headers, body in (
            ({"Authorization": f"Bearer {secret}"}, ASK),
            ({"Authorization": f"Bearer {secret}x"}, ASK),
            ({"Authorization": f"Bearer {secret}"}, {**ASK, "kind": ASK["problem"]}),
        ):
            statuses.append((await client.post("/rewrite", json=body, headers=headers)).status_code)
    assert statuses == [500, 401, 422]
    assert "a fault" in caplog.text
    assert secret not in caplog.text
    assert ASK["problem"] not in caplog.text


async def test_of_a_stream_that_was_refused_nothing_is_kept(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    access = {"open_on_loopback": True, "requests_per_minute": 1}
    app = make_service(Policy(), prompter, verifier, access=access)
    for request_id, status in (("first", 200), ("second", 429)):
        answer = await Client(app).post("/rewrite/stream?resumable=true", ASK, x_request_id=request_id)
        assert answer.sent[0]["status"] == status
        again = await Client(app).post("/rewrite/stream", ASK, last_event_id=f"{request_id}.0")
        assert again.sent[0]["status"] == (200 if status == 200 else 404)
