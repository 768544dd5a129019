"""The contract from outside: whatever a client may send is answered as documented, with or without a key."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drsft.config import Prompts
from drsft.policy.prompts import load_prompter
from drsft.verify.pool import VerifierPool
from serve.api import BatchRequest, RewriteRequest
from serve.limits.keys import make_key
from tests.support.serve import Policy, make_service, served

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

SECRET, LINE = make_key("fuzzer")
AUTHORISED = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
# DRSFT_NUM_BODIES=10000 is the long form.
LENIENT = list(HealthCheck)
NUM_BODIES = int(os.environ.get("DRSFT_NUM_BODIES", "1000"))
PLANTED = "a-phrase-that-must-not-come-back"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{LINE} requests_per_minute=10000000 tokens_per_minute=1000000000\n")
    with VerifierPool() as pool:
        prompter = load_prompter("embedded", Prompts())
        with served(make_service(Policy(), prompter, pool, access={"keys_file": str(keys)})) as url:
            yield url


def fuzz(url: str, *options: str) -> None:
    """schemathesis over the OpenAPI page, as its command runs it; its report is the message of a failure."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *options]
    command += ["--max-examples", "50", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_with_a_key_every_answer_is_documented(url: str) -> None:
    # Left out: data that the schema allows may be past a limit of this service, such as a scorer it has not.
    fuzz(url, "--header", f"Authorization: Bearer {SECRET}", "--exclude-checks", "positive_data_acceptance")


def test_without_a_key_no_answer_is_a_fault_or_undocumented(url: str) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    fuzz(url, "--header", "Authorization: Bearer nobody", "--checks", checks)


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


def is_a_request(body: bytes) -> bool:
    """Chance makes one now and then, such as {"problem": "!", "reference": "!"}."""
    for kind in (RewriteRequest, BatchRequest):
        with suppress(ValidationError):
            kind.model_validate_json(body)
            return True
    return False


def test_malformed_bodies_are_the_callers_mistake_and_nothing_leaks(url: str) -> None:
    num_sent = 0
    with httpx.Client(base_url=url, headers=AUTHORISED, timeout=60) as client:

        @settings(
            max_examples=NUM_BODIES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(body=BODIES, route=st.sampled_from(["/rewrite", "/rewrite/stream", "/rewrite/batch"]))
        def send(body: bytes, route: str) -> None:
            nonlocal num_sent
            assume(not is_a_request(body))
            num_sent += 1
            answer = client.post(route, content=body)
            assert 400 <= answer.status_code < 500, (route, body[:200], answer.status_code)
            problem = answer.json()
            assert problem["request_id"] == answer.headers["X-Request-Id"]
            for inside in (PLANTED, "Traceback", "site-packages", str(Path.cwd())):
                assert inside not in answer.text

        send()
    assert num_sent >= NUM_BODIES
