"""The whole service on a local Ray: a real engine behind a real proxy, over HTTP."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from drsft.config import Rewrite
from drsft.configfile import load_settings
from drsft.policy.prompts import load_prompter
from drsft.policy.vllm import VLLMPolicy
from drsft.records import Problem, problem_id_of
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.verify.pool import VerifierPool
from serve.bench.servers import engine_processes
from serve.settings import ServeConfig

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "serve" / "local.yaml"
ASK = {
    "problem": "Ann has 43 cups, gets 46, gives 7. How many?",
    "reference": "82",
    "expert_solution": "43 + 46 = 89 and 89 - 7 = 82. The answer is \\boxed{82}.",
    "seed": 11,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Service:
    url: str
    process: psutil.Process


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "drsft.cli", "serve", str(CONFIG), "--port", str(free_port())]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout is not None
    told = process.stdout.readline().strip()
    assert told.startswith("http"), log.read_text()[-2000:]
    yield Service(told, psutil.Process(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


@pytest.fixture
def url(service: Service) -> str:
    return service.url


def test_the_endpoint_rewrites_as_the_batch_job_does(url: str) -> None:
    answer = httpx.post(f"{url}/rewrite", json=ASK, timeout=60)
    assert answer.status_code == 200, answer.text
    config = load_settings(ServeConfig, CONFIG)
    prompter = load_prompter(config.target.model, config.target.prompts)
    problem = Problem(
        problem_id=problem_id_of(ASK["problem"], ASK["reference"]),
        question=ASK["problem"],
        demonstration=ASK["expert_solution"],
        reference=ASK["reference"],
    )
    recipe = Recipe(
        rewrite=Rewrite.model_validate(config.rewrite.model_dump()),
        prompter=prompter,
        run_seed=ASK["seed"],
        max_model_len=config.target.max_model_len,
    )
    with VLLMPolicy(config.target, prompter) as policy, VerifierPool() as verifier:
        record = asyncio.run(rewrite_one(problem, policy, verifier, recipe))
    result = answer.json()
    assert (result["source"], result["solution"]) == (record.source.value, record.text)
    assert [one["tokens"] for one in result["attempts"]] == [
        len(one.rollout.completion.token_ids) for one in record.attempts
    ]


def test_it_says_that_it_is_alive_ready_and_which_model_it_has(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready", "engine_requests": 0}
    assert httpx.get(f"{url}/version").json()["model"] == "embedded"


def test_a_stream_tells_of_tokens_while_they_are_sampled(url: str) -> None:
    kinds = []
    with httpx.stream("POST", f"{url}/rewrite/stream", json={**ASK, "seed": 12}, timeout=60) as answer:
        kinds = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event")]
    assert kinds[0] == "stage"
    assert kinds[-1] == "result"
    assert kinds.count("tokens") > 4


def test_phi_is_scored_where_asked(url: str) -> None:
    result = httpx.post(f"{url}/rewrite", json={**ASK, "phi": True}, timeout=60).json()
    assert -20 < result["mean_phi"] < 5


def test_a_batch_comes_as_lines(url: str) -> None:
    problems = [{**ASK, "seed": seed} for seed in range(8)]
    answer = httpx.post(f"{url}/rewrite/batch", json={"problems": problems}, timeout=60)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(8))
    assert all("result" in line for line in lines)


def test_a_request_whose_engine_is_killed_is_answered_by_the_next_one(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as client, ThreadPoolExecutor() as threads:
        under_way = [threads.submit(client.post, "/rewrite", json={**ASK, "seed": i}) for i in range(40, 48)]
        while client.get("/readyz").json()["engine_requests"] == 0:
            pass
        for engine in engine_processes(service.process, "engine"):
            engine.kill()
        answers = [one.result() for one in under_way]
        assert [answer.status_code for answer in answers] == [200] * 8
        for answer in answers[:3]:
            ask = {**ASK, "seed": answer.json()["seed"]}
            anew = {"Idempotency-Key": f"anew-{ask['seed']}"}  # not from the ingress's memory
            again = client.post("/rewrite", json=ask, headers=anew)
            assert again.json()["solution"] == answer.json()["solution"]
