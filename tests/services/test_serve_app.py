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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from drsft.bench.serving.servers import free_port
from drsft.config import Rewrite
from drsft.config.configfile import load_settings
from drsft.policy.prompts import load_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.process.metric_names import SERVICE_METRICS
from drsft.records import Problem, problem_id_of
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.verify.pool import VerifierPool
from serve.settings import ServeConfig
from tests.support.service_processes import engine_processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "serve" / "local.yaml"
ASK = {
    "problem": "Ann has 43 cups, gets 46, gives 7. How many?",
    "reference": "82",
    "expert_solution": "43 + 46 = 89 and 89 - 7 = 82. The answer is \\boxed{82}.",
    "seed": 11,
}
ROOM = 8000  # tokens: some thirteen requests at a time
LONG = {"problem": ASK["problem"], "reference": "no such answer", "recipe": {"self_align_samples": 16}}


@dataclass(frozen=True)
class Service:
    url: str
    process: psutil.Process


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("serve") / "log"
    room = f"limits={{tokens_in_flight: {ROOM}}}"
    command = [sys.executable, "-m", "drsft.cli", "serve", str(CONFIG), room, "--port", str(free_port())]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout is not None
    told = process.stdout.readline().strip()
    assert told.startswith("http"), log.read_text()[-2000:]
    yield Service(told, psutil.Process(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert "ServeController" not in log.read_text(), "what Serve ends is no failure"


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


def test_headers_that_serve_would_obey_change_nothing(url: str) -> None:
    told = {
        "x-request-timeout-seconds": b"0.001",
        "x-request-disconnect-disabled": b"\xff",
        "serve_multiplexed_model_id": b"\xff",
        "serve-multiplexed-model-id": b"another",
        "x-session-id": b"\xff",
        "x-request-id": b"\xff",
    }
    headers = [(name.encode(), value) for name, value in told.items()]
    answer = httpx.post(f"{url}/rewrite", json={**ASK, "seed": 13}, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == answer.headers["X-Request-Id"]
    wrong = httpx.post(f"{url}/rewrite", json={}, headers=headers, timeout=60)
    assert (wrong.status_code, wrong.json()["request_id"]) == (422, wrong.headers["X-Request-Id"])


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
            # What is said by itself makes another request for the ingress's memory, and the same samples.
            said = {"recipe": {"hint": "demonstration"}, "seed": answer.json()["seed"]}
            again = client.post("/rewrite", json={**ASK, **said})
            assert again.json()["solution"] == answer.json()["solution"]


def exported(process: psutil.Process) -> list[Metric]:
    """What Prometheus would scrape: the agent of the service's node, at whichever of its ports that is."""
    for child in process.children(recursive=True):
        if "DashboardAgent" in " ".join(child.cmdline()[:1]):
            for port in {one.laddr.port for one in child.net_connections("tcp") if one.status == "LISTEN"}:
                with suppress(httpx.HTTPError):
                    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
                    if "ray_drsft_service" in answer.text:
                        return list(text_string_to_metric_families(answer.text))
    return []


def num_in_engine(client: httpx.Client) -> int:
    return int(client.get("/readyz").json().get("engine_requests", -1))


def test_a_client_that_leaves_frees_the_engine(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port)) as leaver:
                body = json.dumps(LONG)
                head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
                leaver.sendall(f"POST /rewrite HTTP/1.1\r\n{head}\r\n\r\n{body}".encode())
                wait_until(lambda: num_in_engine(client) > 0)
            wait_until(lambda: num_in_engine(client) == 0)


def test_past_its_room_requests_are_refused_with_a_time_and_the_rest_are_answered(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as client:
        with ThreadPoolExecutor(60) as threads:
            asks = [{**ASK, "seed": seed} for seed in range(100, 160)]
            answers = list(threads.map(lambda ask: client.post("/rewrite", json=ask), asks))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert all("the service is full" in answer.text for answer in refused)
        assert client.post("/rewrite", json={**ASK, "seed": 160}).status_code == 200


def test_every_metric_of_the_service_is_exported_with_its_labels(service: Service) -> None:
    """After the test above: a refusal was counted there."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        client.post("/rewrite", json={**ASK, "seed": 170}).raise_for_status()

    def is_all_there() -> bool:
        labels: dict[str, set[str]] = {}
        for family in exported(service.process):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
        names = [(name, metric) for metric in SERVICE_METRICS for name in metric.exported_names]
        return all(name in labels and labels[name] >= set(metric.labels) for name, metric in names)

    wait_until(is_all_there)


def test_without_its_ingress_a_request_is_told_to_come_again_and_the_service_returns(
    service: Service,
) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as client, ThreadPoolExecutor() as threads:
        under_way = [threads.submit(client.post, "/rewrite", json={**ASK, "seed": i}) for i in range(60, 68)]
        wait_until(lambda: num_in_engine(client) > 0)
        for ingress in engine_processes(service.process, "ingress"):
            ingress.kill()
        for answer in [one.result() for one in under_way]:
            assert answer.status_code in (200, 503), answer.text
            assert answer.status_code == 200 or "Retry-After" in answer.headers
        wait_until(lambda: client.post("/rewrite", json={**ASK, "seed": 68}).status_code == 200)


def test_told_to_end_it_answers_what_is_under_way(service: Service) -> None:
    """The last one: it ends the service."""
    with httpx.Client(base_url=service.url, timeout=120) as client, ThreadPoolExecutor() as threads:
        under_way = [threads.submit(client.post, "/rewrite", json={**LONG, "seed": i}) for i in range(4)]
        wait_until(lambda: num_in_engine(client) > 0)
        service.process.send_signal(signal.SIGTERM)
        assert [one.result().status_code for one in under_way] == [200] * 4
