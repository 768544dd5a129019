"""The contract from outside: whatever a client may send is answered as documented, with or without a key."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_support import Policy, make_service, served

from drsft.config import Prompts
from drsft.policy.prompts import load_prompter
from drsft.verify.pool import VerifierPool
from serve.auth import make_key

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

SECRET, LINE = make_key("fuzzer")
AUTHORISED = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
PLANTED = "a-phrase-that-must-not-come-back"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{LINE} requests_per_minute=10000000 tokens_per_minute=1000000000\n")
    with VerifierPool() as pool:
        prompter = load_prompter("embedded", Prompts())
        with served(make_service(Policy(), prompter, pool, access={"keys_file": str(keys)})) as url:
            yield url


@pytest.fixture(scope="module")
def api(url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


contract = schemathesis.pytest.from_fixture("api")


@contract.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_with_a_key_every_answer_is_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {SECRET}"})


@contract.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_without_a_key_nothing_is_rewritten(case: schemathesis.Case) -> None:
    answer = case.call(headers={"Authorization": "Bearer nobody"})
    assert answer.status_code < 500
    if case.path.startswith("/rewrite"):
        assert answer.status_code in (401, 404, 405, 413, 422)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.just(PLANTED),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["problem", "reference", "expert_solution", "recipe", "seed", "kind", "x"]), inner
        )
    ),
    max_leaves=20,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.integers(1, 100_000).map(lambda depth: b"[" * depth),
    st.tuples(JSON, st.integers(0, 100)).map(lambda cut: json.dumps(cut[0]).encode()[: cut[1]]),
)


@pytest.mark.slow
def test_ten_thousand_malformed_bodies_are_the_callers_mistake_and_nothing_leaks(url: str) -> None:
    num_sent = 0
    with httpx.Client(base_url=url, headers=AUTHORISED, timeout=60) as client:

        @settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(body=BODIES, route=st.sampled_from(["/rewrite", "/rewrite/stream", "/rewrite/batch"]))
        def send(body: bytes, route: str) -> None:
            nonlocal num_sent
            num_sent += 1
            answer = client.post(route, content=body)
            assert 400 <= answer.status_code < 500, (route, body[:200], answer.status_code)
            problem = answer.json()
            assert problem["request_id"] == answer.headers["X-Request-Id"]
            for inside in (PLANTED, "Traceback", "site-packages", str(Path.cwd())):
                assert inside not in answer.text

        send()
    assert num_sent >= 10_000
