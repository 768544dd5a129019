"""How long a refused request is told to wait, what one without answer costs, batches that wait for room."""

import asyncio
import json
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.policy.prompts import Prompter
from drsft.verify.pool import VerifierPool
from serve.http.backend import Backend
from serve.http.errors import EngineUnavailable
from serve.http.routes import make_app
from serve.limits.admission import Admission, Rejected
from serve.limits.keys import Key
from tests.support.serve import Policy, make_backend

KEY = Key(name="team", digest=b"", requests_per_minute=10_000, tokens_per_minute=10**9)
ASK = {"problem": "1 + 1?", "reference": "2", "seed": 3}
ONE_AT_A_TIME = {"tokens_in_flight": 200}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def refused(admission: Admission, num_tokens: int) -> Rejected:
    with pytest.raises(Rejected) as caught, admission.admit(KEY, num_tokens):
        pass
    return caught.value


@given(together=st.integers(1, 50), seconds=st.floats(1, 60))
def test_a_refusal_names_the_time_in_which_as_much_ends(together: int, seconds: float) -> None:
    """However many share the engines, all of them have ended after the time that they take."""
    clock = Clock()
    admission = Admission(10 * together, clock_s=clock)
    for _ in range(3):
        with ExitStack() as under_way:
            for _ in range(together):
                under_way.enter_context(admission.admit(KEY, 10))
            clock.now_s += seconds
    with ExitStack() as under_way:
        for _ in range(together):
            under_way.enter_context(admission.admit(KEY, 10))
        for num_tokens in (1, 10, 10 * together):
            wait_s = refused(admission, num_tokens).retry_after_s
            assert abs(wait_s - max(1, seconds * num_tokens / admission.in_flight)) <= 1


def test_nobody_is_told_to_wait_longer_than_a_request_takes() -> None:
    clock = Clock()
    admission = Admission(100, longest_s=20, clock_s=clock)
    with admission.admit(KEY, 10):
        clock.now_s = 15
    with admission.admit(KEY, 10):
        assert refused(admission, 100_000).retry_after_s == 20


async def post(backend: Backend, route: str, body: Any) -> httpx.Response:
    transport = httpx.ASGITransport(make_app(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(route, json=body)


def batch(num_problems: int) -> dict[str, Any]:
    return {"problems": [{**ASK, "seed": seed} for seed in range(num_problems)]}


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_batch_larger_than_the_room_is_answered_whole(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    backend = make_backend(Policy(), prompter, verifier, limits=ONE_AT_A_TIME)
    answer = await post(backend, "/rewrite/batch", batch(8))
    assert ["result" in line for line in lines(answer)] == [True] * 8


async def test_a_batch_is_told_that_the_service_is_full_at_its_deadline(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    policy = Policy()
    backend = make_backend(policy, prompter, verifier, limits={**ONE_AT_A_TIME, "deadline_s": 0.01})
    with backend.admission.admit(KEY, 200):
        answer = await post(backend, "/rewrite/batch", batch(2))
    assert [line["error"]["status"] for line in lines(answer)] == [429, 429]
    assert policy.num_calls == 0


async def test_a_batch_past_its_keys_rate_is_refused_at_once(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    access = {"open_on_loopback": True, "requests_per_minute": 1}
    answer = await post(make_backend(Policy(), prompter, verifier, access=access), "/rewrite/batch", batch(2))
    assert sorted(line.get("error", {}).get("status", 200) for line in lines(answer)) == [200, 429]


async def parked(backend: Backend, *batches: int) -> list[asyncio.Task[httpx.Response]]:
    """One batch after the other, each with so many problems, none of which finds room."""
    tasks = []
    for number in batches:
        tasks.append(asyncio.create_task(post(backend, "/rewrite/batch", batch(number))))
        for _ in range(20 * number):
            await asyncio.sleep(0)
    return tasks


async def test_of_one_key_as_many_problems_wait_as_a_batch_has_and_the_next_batch_is_refused_whole(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    backend = make_backend(Policy(), prompter, verifier, limits={**ONE_AT_A_TIME, "batch_problems": 4})
    with backend.admission.admit(KEY, 200):
        half, whole, other_half = await parked(backend, 2, 4, 2)
        refused = await whole
        assert (refused.status_code, half.done(), other_half.done()) == (429, False, False)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert int(refused.headers["Retry-After"]) >= 1
        assert "full" not in refused.text, "for others there is a place"
    for answer in (await half, await other_half):
        assert ["result" in line for line in lines(answer)] == [True] * 2
    assert ["result" in line for line in lines(await post(backend, "/rewrite/batch", batch(4)))] == [True] * 4


async def test_a_batch_that_waits_is_counted_once_for_each_problem_before_it_waits(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    access = {"open_on_loopback": True, "requests_per_minute": 3}
    backend = make_backend(Policy(), prompter, verifier, limits=ONE_AT_A_TIME, access=access)
    with backend.admission.admit(KEY, 200):
        (waiting,) = await parked(backend, 2)
        another = {**ASK, "seed": 9}
        # Full: refused, and free.
        assert "full" in (await post(backend, "/rewrite", another)).text
        (also_waiting,) = await parked(backend, 1)
        assert "over its limit of 3 requests" in (await post(backend, "/rewrite", another)).text
    assert ["result" in line for line in lines(await waiting)] == [True] * 2
    assert ["result" in line for line in lines(await also_waiting)] == [True]
    assert "over its limit of 3 requests" in (await post(backend, "/rewrite", another)).text


async def test_a_batch_whose_client_leaves_frees_its_places(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    backend = make_backend(Policy(), prompter, verifier, limits={**ONE_AT_A_TIME, "batch_problems": 4})
    with backend.admission.admit(KEY, 200):
        (waiting,) = await parked(backend, 4)
        waiting.cancel()
        await asyncio.wait([waiting])
        (again,) = await parked(backend, 4)
        assert not again.done()
    assert ["result" in line for line in lines(await again)] == [True] * 4


def allowing_one(policy: Policy, prompter: Prompter, verifier: VerifierPool, **changes: Any) -> Backend:
    """The key's tokens are enough for one request by its estimate, and for many by what they sample."""
    access = {"open_on_loopback": True, "tokens_per_minute": 200}
    return make_backend(policy, prompter, verifier, access=access, **changes)


async def test_what_was_cut_off_is_paid_for(prompter: Prompter, verifier: VerifierPool) -> None:
    policy = Policy()
    policy.released.clear()
    backend = allowing_one(policy, prompter, verifier, limits={"deadline_s": 0.01})
    assert (await post(backend, "/rewrite", ASK)).status_code == 504
    policy.released.set()
    assert (await post(backend, "/rewrite", {**ASK, "seed": 4})).status_code == 429


async def test_a_fault_here_is_no_way_past_the_limit(prompter: Prompter, verifier: VerifierPool) -> None:
    def fail(seed: int) -> str:
        raise RuntimeError

    backend = allowing_one(Policy(fail), prompter, verifier)
    assert (await post(backend, "/rewrite", ASK)).status_code == 500
    assert (await post(backend, "/rewrite", ASK)).status_code == 429


@pytest.mark.parametrize("failure", [EngineUnavailable(), Rejected("every engine is full", 2, is_full=True)])
async def test_what_no_engine_took_costs_nothing(
    prompter: Prompter, verifier: VerifierPool, failure: Exception
) -> None:
    def fail(seed: int) -> str:
        raise failure

    policy = Policy(fail)
    backend = allowing_one(policy, prompter, verifier)
    for _ in range(3):
        assert (await post(backend, "/rewrite", ASK)).status_code in (429, 503)
    assert policy.num_calls == 3
    policy.answer = lambda seed: "The answer is \\boxed{2}."
    assert (await post(backend, "/rewrite", ASK)).status_code == 200


async def test_a_repeated_answer_costs_a_request_and_no_tokens(
    prompter: Prompter, verifier: VerifierPool
) -> None:
    access = {"open_on_loopback": True, "requests_per_minute": 4, "tokens_per_minute": 200}
    policy = Policy()
    backend = make_backend(policy, prompter, verifier, access=access)
    routes = ["/rewrite", "/rewrite/stream", "/rewrite", "/rewrite/stream", "/rewrite", "/rewrite/stream"]
    statuses = [(await post(backend, route, ASK)).status_code for route in routes]
    assert statuses == [200] * 4 + [429] * 2
    assert policy.num_calls == 1
