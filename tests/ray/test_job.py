"""The job under `ray job submit`, on a head with secrets in its environment and watched by Prometheus."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from test_runs import ROOT, SMALL, planned_ids, problem_ids, run_folder

from drsft.metrics import RUN_METRICS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

CANARY = f"canary-{uuid.uuid4().hex}"  # not written here: the job ships this file too
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "TEACHER_KEY", "WANDB_API_KEY")
BIN = Path(sys.executable).parent
WATCH = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: ray
    file_sd_configs: [{{files: [{head}/prom_metrics_service_discovery.json], refresh_interval: 1s}}]
"""
FIRED = 'max_over_time(ALERTS{alertname="DrsftNoCommit", alertstate="firing"}[1h])'
COMMITS = 'max_over_time(ray_drsft_shard_commits_total{stage="rewrite"}[1h])'


@dataclass(frozen=True)
class Finished:
    """Two jobs, one that ran to its end and one with a mistake, and what they left."""

    storage: Path
    head: Path  # Ray's folder
    done: subprocess.CompletedProcess[str]
    failing: subprocess.CompletedProcess[str]
    jobs: str  # what the job server tells of them
    seen: dict[str, Any] | None  # what Prometheus saw; None without it


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_head() -> Iterator[tuple[str, Path]]:
    """A Ray head with its job server, on ports and in a folder of its own; only its processes are ended."""
    with tempfile.TemporaryDirectory(
        prefix="drsft-", dir="/tmp"
    ) as folder:  # Ray's socket paths must be short
        ports = {"port": 36379, "dashboard-port": 38265, "ray-client-server-port": 31001}
        options = [f"--{name}={port}" for name, port in ports.items()]
        command = [str(BIN / "ray"), "start", "--head", "--block", *options, f"--temp-dir={folder}"]
        command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=2"]
        command += [f"--metrics-export-port={free_port()}", "--disable-usage-stats"]
        secrets = dict.fromkeys(SECRETS, CANARY)
        environment = os.environ | secrets | {"RAY_metrics_report_interval_ms": "1000"}
        with (Path(folder) / "head.log").open("w") as log:
            head = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        try:
            yield "http://127.0.0.1:38265", Path(folder)
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(timeout=60)


@contextmanager
def prometheus(head: Path, folder: Path) -> Iterator[str | None]:
    """One that scrapes the head every second, with our rules made impatient; None where it is missing."""
    if shutil.which("prometheus") is None:
        yield None
        return
    rules = (ROOT / "cluster/prometheus/rules.yaml").read_text()
    (folder / "rules.yaml").write_text(rules.replace("> 1800", "> 2").replace("for: 1m", "for: 0s"))
    (folder / "prometheus.yaml").write_text(WATCH.format(head=head))
    url = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--web.listen-address={url}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={folder}/data"], stdout=log, stderr=log)
    try:
        yield f"http://{url}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def told(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def asked(url: str, query: str) -> list[dict[str, Any]]:
    answer = told(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    return list(json.loads(answer)["data"]["result"])


class NotReadyError(Exception):
    """The head answers before its agent does."""


@retry(
    retry=retry_if_exception_type(NotReadyError), stop=stop_after_delay(90), wait=wait_fixed(1), reraise=True
)
def submit(address: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", str(ROOT), "--"]
    command += [sys.executable, "jobs/rewrite_and_train.py", "--config", "jobs/configs/quickstart.yaml"]
    done = subprocess.run([*command, *overrides], cwd=ROOT, capture_output=True, text=True, check=False)
    if "No available agent" in done.stderr or "Failed to connect" in done.stderr:
        raise NotReadyError(done.stderr)
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    storage, watch = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("prometheus")
    with ray_head() as (address, head), prometheus(head, watch) as url:
        done = submit(address, *SMALL, f"storage={storage}")
        failing = submit(address, "train.learning_rat=1")
        seen = None
        if url is not None:
            names = json.loads(told(f"{url}/api/v1/label/__name__/values"))["data"]
            seen = {"names": names, "fired": asked(url, FIRED), "commits": asked(url, COMMITS)}
        jobs = told(f"{address}/api/jobs/")
        yield Finished(storage, head, done, failing, jobs, seen)


def test_the_job_runs_to_its_end_and_names_its_report(finished: Finished) -> None:
    done = finished.done
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = run_folder(finished.storage)
    assert f"{folder}/report/index.html" in done.stdout
    assert sorted(problem_ids(folder)) == sorted(planned_ids(folder))
    rows = json.loads((folder / "report/summary.json").read_text())
    assert [row["arm"] for row in rows] == ["base", "sft", "dr+dft"]
    assert all(row["num_problems"] == 20 and row["k"] == 2 for row in rows)
    assert "<html" in (folder / "report/index.html").read_text()
    stages = {path.stem.partition("-")[2] for path in (folder / "history").iterdir()}
    assert stages == {"start", "rewrite", "gap", "train", "evaluate", "report"}


def test_a_mistake_in_the_configuration_ends_the_job_with_its_own_code(finished: Finished) -> None:
    assert finished.failing.returncode != 0
    assert "train.learning_rat: unknown key" in finished.failing.stdout + finished.failing.stderr
    assert "exit code 2" in finished.jobs


def test_no_secret_of_the_environment_is_in_anything_that_was_written_or_said(finished: Finished) -> None:
    said = [finished.jobs, *(job.stdout + job.stderr for job in (finished.done, finished.failing))]
    assert [text for text in said if CANARY in text] == []
    roots = (finished.storage, finished.head)
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_actors_log_what_they_did_and_to_which_shard(finished: Finished) -> None:
    lines = [
        json.loads(line)
        for path in finished.head.glob("session_2*/logs/worker-*.err")
        for line in path.read_text(errors="replace").splitlines()
        if '"message": "shard committed"' in line
    ]
    assert sorted(line["shard"] for line in lines) == [f"{number:05d}" for number in range(12)]
    assert {(line["run"], line["stage"]) for line in lines} == {
        (run_folder(finished.storage).name, "rewrite")
    }


def test_prometheus_sees_every_metric_of_a_run_and_an_alert_fires(finished: Finished) -> None:
    if finished.seen is None:
        pytest.skip("no Prometheus on this machine: apt-get install -y prometheus")
    known = set(finished.seen["names"])
    rare = {"drsft_engine_deaths_total"}  # no engine died
    assert [m.name for m in RUN_METRICS if m.name not in rare and not set(m.exported_names) <= known] == []
    [commits] = finished.seen["commits"]
    assert float(commits["value"][1]) == 12
    assert commits["metric"]["run"] == run_folder(finished.storage).name
    assert "rewrite" in {alert["metric"]["stage"] for alert in finished.seen["fired"]}
