"""The routes with the real cascade, prompts and verifier, over a policy that answers from a function."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from drsft.intake.messages import Conversation, read_conversation
from drsft.policy.prompts import Prompter
from drsft.records import Problem, problem_id_of
from drsft.verify.pool import VerifierPool
from serve.api import BatchLine
from serve.limits.keys import make_key
from tests.support.serve import Answers, Policy, make_service

ASK = {"problem": "1 + 1?", "reference": "2", "expert_solution": "It is \\boxed{2}.", "seed": 3}


@pytest.fixture
def policy(prompter: Prompter) -> Policy:
    policy = Policy()
    policy.streamed_ids = prompter.completion("The sum")[:-1]
    return policy


@pytest.fixture
async def service(prompter: Prompter, policy: Policy) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    pool = VerifierPool()
    clients = []

    def make(**changes: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(make_service(policy, prompter, pool, **changes))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()
    pool.close()


async def test_a_problem_that_the_target_solves_comes_back_as_its_own(service: Any) -> None:
    answer = await service().post("/rewrite", json=ASK)
    assert answer.status_code == 200
    result = answer.json()
    assert (result["source"], result["answer"], result["outcome"]) == ("own", "2", "correct")
    assert result["solution"] == "The answer is \\boxed{2}."
    assert result["id"] == answer.headers["X-Request-Id"]
    assert [attempt["stage"] for attempt in result["attempts"]] == ["self_align"] * 2
    assert result["tokens"]["sampled"] == sum(attempt["tokens"] for attempt in result["attempts"])


async def test_what_fails_alone_goes_on_to_the_guide_and_then_to_the_expert(
    service: Any, policy: Policy
) -> None:
    policy.answer = lambda seed: "The answer is \\boxed{5}."
    result = (await service().post("/rewrite", json=ASK)).json()
    assert (result["source"], result["solution"]) == ("expert", ASK["expert_solution"])
    assert [attempt["stage"] for attempt in result["attempts"]] == ["self_align"] * 2 + ["guided"] * 2


async def test_without_an_expert_there_is_no_guided_stage_and_nothing_to_fall_back_on(
    service: Any, policy: Policy
) -> None:
    policy.answer = lambda seed: "The answer is \\boxed{5}."
    ask = {name: value for name, value in ASK.items() if name != "expert_solution"}
    result = (await service().post("/rewrite", json=ask)).json()
    assert (result["source"], result["solution"], result["outcome"]) == ("dropped", None, None)
    assert {attempt["stage"] for attempt in result["attempts"]} == {"self_align"}


TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "2?"}]},
    {"role": "assistant", "content": "It is 3."},
    {"role": "user", "content": "1 + 1?", "name": "of other tools", "more": [{"x": None}]},
]
TOLD = {"role": "assistant", "content": ASK["expert_solution"]}


async def test_a_conversation_is_asked_as_problem_files_are_read(
    service: Any, policy: Policy, prompter: Prompter
) -> None:
    """Its last turn of the assistant is the demonstration, unless there is one beside it."""
    policy.answer = lambda seed: "The answer is \\boxed{5}."
    asked, seen = {"messages": [*TURNS, TOLD], "reference": "2", "seed": 3}, service()
    answer = await seen.post("/rewrite", json=asked)
    result = answer.json()
    read = read_conversation(asked["messages"])
    assert isinstance(read, Conversation)
    assert result["problem_id"] == problem_id_of(read.question, "2", read.earlier)
    assert (result["source"], result["solution"]) == ("expert", ASK["expert_solution"])
    problem = Problem(problem_id="", question="1 + 1?", demonstration="", reference="2", earlier=read.earlier)
    assert result["tokens"]["prompt"] == len(prompter.plain(problem))
    other = {**asked, "expert_solution": "So \\boxed{2}."}
    told = (await seen.post("/rewrite", json=other)).json()
    assert told["solution"] == "So \\boxed{2}."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "no user turn at the end"),
        ({"messages": TURNS, "problem": "1 + 1?"}, "exactly one of problem and messages"),
        ({"messages": None}, "exactly one of problem and messages"),
        ({"messages": []}, "messages"),
        ({"messages": "[]"}, "messages"),
        ({"messages": [{"role": "word word", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty message"),
        ({"messages": [*TURNS[1:], TURNS[0]]}, "system turn after others"),
        ({"messages": [TOLD]}, "no user turn at the end"),
        ({"messages": [{**TURNS[1], "tool_calls": [{"id": "1"}]}]}, "tool_calls"),
        ({"messages": [{"role": "user", "content": "x" * 30_000}]}, "at most"),
        ({"messages": [*TURNS, {"role": "assistant", "content": "x" * 140_000}]}, "at most"),
        ({"messages": [{"role": "user", "content": "word " * 400}]}, "leaves no room"),
    ],
)
async def test_messages_that_are_no_conversation_are_named(
    service: Any, policy: Policy, change: dict[str, Any], words: str
) -> None:
    answer = await service().post("/rewrite", json={"messages": TURNS[:1], "reference": "2", **change})
    assert answer.status_code == 422
    assert words in answer.text
    assert "word word" not in answer.text
    assert policy.num_calls == 0


async def test_the_contract_has_an_example_of_a_conversation_that_it_takes(service: Any) -> None:
    page = (await service().get("/openapi.json")).json()
    examples = page["components"]["schemas"]["RewriteRequest"]["examples"]
    assert [set(one) & {"problem", "messages"} for one in examples] == [{"problem"}, {"messages"}]
    for one in examples:
        assert (await service().post("/rewrite", json=one)).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"problem": ""}, "problem"),
        ({"problem": " \n"}, "problem"),
        ({"problem": 3}, "problem"),
        ({"surprise": 1}, "surprise"),
        ({"kind": "code"}, "kind"),
        ({"kind": "magic"}, "kind"),
        ({"phi": True}, "phi"),
        ({"seed": -1}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"recipe": {"self_align_samples": 99}}, "recipe.self_align_samples"),
        ({"recipe": {"max_tokens": 10_000}}, "recipe.max_tokens"),
        ({"recipe": {"tokens": 1}}, "recipe.tokens"),
        ({"problem": "x" * 30_000}, "problem"),
        ({"problem": "word " * 400}, "problem"),
        ({"deadline_s": 0}, "deadline_s"),
    ],
)
async def test_a_wrong_field_is_named_and_its_value_is_not_repeated(
    service: Any, policy: Policy, change: dict[str, Any], field: str
) -> None:
    answer = await service().post("/rewrite", json={**ASK, **change})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert field in [error["field"] for error in problem["errors"]]
    assert "word word" not in answer.text
    assert policy.num_calls == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"problem": "\\ud800", "reference": "2"}',
        b"\xff\xfe",
    ],
)
async def test_what_is_not_a_request_is_a_problem_document(service: Any, body: bytes) -> None:
    answer = await service().post("/rewrite", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_past_the_limit_is_not_read_to_its_end(service: Any, is_chunked: bool) -> None:
    body = json.dumps({**ASK, "expert_solution": "x" * 400_000}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    content: Any = chunks() if is_chunked else body
    answer = await service().post("/rewrite", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


async def test_no_key_opens_nothing_and_the_right_one_does(service: Any, tmp_path: Path) -> None:
    secret, line = make_key("team")
    (tmp_path / "keys").write_text(line)
    client = service(access={"keys_file": str(tmp_path / "keys")})
    for route, ask in (("/rewrite", ASK), ("/rewrite/stream", ASK), ("/rewrite/batch", {"problems": [ASK]})):
        assert (await client.post(route, json=ask)).status_code == 401
        wrong = await client.post(route, json=ask, headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        right = await client.post(route, json=ask, headers={"Authorization": f"Bearer {secret}"})
        assert right.status_code == 200


async def test_an_unknown_fault_is_told_to_the_log_alone(service: Any, policy: Policy) -> None:
    def fail(seed: int) -> str:
        raise RuntimeError("a secret path")

    policy.answer = fail
    metrics = Answers()
    access = {"open_on_loopback": True, "cors_origins": ["https://elsewhere.example"]}
    headers = {"Origin": "https://elsewhere.example"}
    answer = await service(access=access, metrics=metrics).post("/rewrite", json=ASK, headers=headers)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://elsewhere.example"
    assert metrics.counted == [("/rewrite", 500)]


async def test_wrong_fields_are_named_in_short_and_not_without_end(service: Any) -> None:
    fields = {f"{number}-{'x' * 1000}": 1 for number in range(100)}
    answer = await service().post("/rewrite", json={**ASK, **fields})
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert len(errors) == 20
    assert all(len(error["field"]) == 80 for error in errors)


async def test_a_full_service_refuses_at_once(service: Any, policy: Policy) -> None:
    client = service(limits={"tokens_in_flight": 200})
    policy.released.clear()
    first = asyncio.create_task(client.post("/rewrite", json=ASK))
    await policy.started.wait()
    refused = await client.post("/rewrite", json={**ASK, "seed": 4})
    streamed = await client.post("/rewrite/stream", json={**ASK, "seed": 5})
    policy.released.set()
    assert (await first).status_code == 200
    for answer in (refused, streamed):
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1


async def test_the_deadline_ends_the_sampling(service: Any, policy: Policy) -> None:
    policy.released.clear()
    answer = await service().post("/rewrite", json={**ASK, "deadline_s": 1})
    assert answer.status_code == 504
    assert policy.num_cancelled == 1


async def test_a_fixed_seed_samples_once_and_an_open_one_each_time(service: Any, policy: Policy) -> None:
    client = service()
    first, again = [(await client.post("/rewrite", json=ASK)).json() for _ in range(2)]
    assert policy.num_calls == 1
    assert first["id"] != again["id"]
    assert {**first, "id": ""} == {**again, "id": ""}
    unseeded = {name: value for name, value in ASK.items() if name != "seed"}
    for _ in range(2):
        await client.post("/rewrite", json=unseeded)
    assert policy.num_calls == 3


async def test_an_idempotency_key_joins_what_is_under_way_and_refuses_another_request(
    service: Any, policy: Policy
) -> None:
    client = service()
    unseeded = {name: value for name, value in ASK.items() if name != "seed"}
    headers = {"Idempotency-Key": "one"}
    policy.released.clear()
    first = asyncio.create_task(client.post("/rewrite", json=unseeded, headers=headers))
    await policy.started.wait()
    second = asyncio.create_task(client.post("/rewrite", json=unseeded, headers=headers))
    policy.released.set()
    seeds = [answer.json()["seed"] for answer in (await first, await second)]
    assert seeds[0] == seeds[1]
    assert policy.num_calls == 1
    other = await client.post("/rewrite", json={**unseeded, "problem": "2 + 2?"}, headers=headers)
    assert other.status_code == 409


async def test_a_batch_answers_every_problem_in_order_of_completion(service: Any) -> None:
    problems = [{**ASK, "seed": 1}, {**ASK, "kind": "code"}, {**ASK, "seed": 2}]
    answer = await service().post("/rewrite/batch", json={"problems": problems})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(line["index"] for line in lines) == [0, 1, 2]
    by_index = {line["index"]: line for line in lines}
    assert by_index[1]["error"]["status"] == 422
    assert by_index[0]["result"]["source"] == "own"
    assert [sorted(by_index[index]) for index in range(3)] == [
        ["index", "result"],
        ["error", "index"],
        ["index", "result"],
    ]
    for line in answer.text.splitlines():
        BatchLine.model_validate_json(line)


def events(text: str) -> list[dict[str, Any]]:
    blocks = [
        dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block
    ]
    return [{"id": one["id"], "kind": one["event"], "data": json.loads(one["data"])} for one in blocks]


async def test_a_stream_tells_what_happens_in_order(service: Any) -> None:
    answer = await service().post("/rewrite/stream", json=ASK)
    told = events(answer.text)
    kinds = [event["kind"] for event in told]
    assert kinds == ["stage", "attempt", "attempt", "tokens", "verdict", "verdict", "result"]
    assert told[3]["data"]["text"] == "The sum"
    assert {event["data"]["sample_index"] for event in told if event["kind"] == "verdict"} == {0, 1}
    assert told[-1]["data"]["source"] == "own"


async def test_a_stream_is_taken_up_behind_the_last_event_by_its_own_caller_only(
    service: Any, tmp_path: Path
) -> None:
    (mine, my_line), (other, other_line) = make_key("mine"), make_key("other")
    (tmp_path / "keys").write_text(f"{my_line}\n{other_line}")
    client = service(access={"keys_file": str(tmp_path / "keys")})
    headers = {"Authorization": f"Bearer {mine}"}
    whole = events((await client.post("/rewrite/stream?resumable=true", json=ASK, headers=headers)).text)
    headers["Last-Event-ID"] = whole[2]["id"]
    rest = await client.post("/rewrite/stream?resumable=true", json=ASK, headers=headers)
    assert events(rest.text) == whole[3:]
    headers["Authorization"] = f"Bearer {other}"
    assert (await client.post("/rewrite/stream", json=ASK, headers=headers)).status_code == 404


async def test_the_page_loads_nothing_from_elsewhere_and_says_so(service: Any) -> None:
    client = service()
    for route in ("/", "/page.css", "/page.js"):
        answer = await client.get(route)
        assert answer.status_code == 200
        assert "://" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


LOOPBACK = ["localhost", "LOCALHOST:8700", "127.0.0.1", "127.0.0.1:80", "127.8.9.10:", "[::1]", "[::1]:8700"]
ELSEWHERE = [
    "elsewhere.example",
    "elsewhere.example:8700",
    "localhost.elsewhere.example",
    "127.0.0.1.elsewhere.example",
    "localhost@elsewhere.example",
    "localhost:8700@elsewhere.example",
    "192.0.2.1",
    "0.0.0.0",
    "[2001:db8::1]:8700",
    "::1",
    "[localhost",
    "",
]


@pytest.mark.parametrize(
    "route", ["/", "/rewrite", "/rewrite/stream", "/rewrite/batch", "/version", "/openapi.json", "/none"]
)
async def test_without_keys_only_who_asks_for_this_machine_by_a_name_of_its_own_is_answered(
    service: Any, policy: Policy, route: str
) -> None:
    client = service()
    method = "POST" if route.startswith("/rewrite") else "GET"
    ask = {"problems": [ASK]} if route.endswith("batch") else ASK
    for host in ELSEWHERE:
        refused = await client.request(method, route, json=ask, headers={"Host": host})
        assert refused.status_code == 403, host
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["request_id"] == refused.headers["X-Request-Id"]
    assert policy.num_calls == 0
    for host in LOOPBACK:
        answered = await client.request(method, route, json=ask, headers={"Host": host})
        assert answered.status_code == (404 if route == "/none" else 200), host


async def test_with_keys_the_service_goes_by_any_name(service: Any, tmp_path: Path) -> None:
    secret, line = make_key("team")
    (tmp_path / "keys").write_text(line)
    client = service(access={"keys_file": str(tmp_path / "keys")})
    headers = {"Authorization": f"Bearer {secret}", "Host": "service.example"}
    assert (await client.post("/rewrite", json=ASK, headers=headers)).status_code == 200


async def test_cors_is_closed_unless_set(service: Any) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    closed = await service().options("/rewrite", headers=headers)
    assert "access-control-allow-origin" not in closed.headers
    access = {"open_on_loopback": True, "cors_origins": ["https://elsewhere.example"]}
    opened = await service(access=access).options("/rewrite", headers=headers)
    assert opened.headers["access-control-allow-origin"] == "https://elsewhere.example"


async def test_every_answer_of_the_contract_is_documented(service: Any) -> None:
    schema = (await service().get("/openapi.json")).json()
    for route in ("/rewrite", "/rewrite/stream", "/rewrite/batch"):
        responses = schema["paths"][route]["post"]["responses"]
        assert {"200", "401", "408", "409", "413", "422", "429", "500", "503", "504"} <= set(responses)
    assert schema["components"]["schemas"]["RewriteRequest"]["examples"]


def documented(schema: dict[str, Any], name: str) -> dict[str, Any]:
    assert name in schema["components"]["schemas"]
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


async def test_every_answer_is_documented_under_the_media_type_that_it_has(service: Any) -> None:
    client = service()
    schema = (await client.get("/openapi.json")).json()
    problem = {"application/problem+json": documented(schema, "ErrorBody")}
    num_errors = 0
    for routes in schema["paths"].values():
        for route in routes.values():
            errors = [answer for status, answer in route["responses"].items() if int(status) >= 400]
            num_errors += len(errors)
            assert all(answer["content"] == problem for answer in errors)
    assert num_errors > 30
    lines, events = (
        schema["paths"][f"/rewrite/{kind}"]["post"]["responses"]["200"]["content"]
        for kind in ("batch", "stream")
    )
    assert lines == {"application/jsonl": documented(schema, "BatchLine")}
    assert events == {"text/event-stream": {}}
    for route, ask, content in (("batch", {"problems": [ASK]}, lines), ("stream", ASK, events)):
        sent = (await client.post(f"/rewrite/{route}", json=ask)).headers["Content-Type"]
        assert sent.partition(";")[0] in content
