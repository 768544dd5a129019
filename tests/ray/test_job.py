"""The job under `ray job submit` on three nodes, which have secrets in their environment and are watched by
Prometheus; in each stage the node that works on it is lost."""

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from cluster.local_cluster import LocalCluster, local_cluster
from drsft.bench.serving.servers import free_port
from drsft.process.metric_names import RUN_METRICS
from drsft.run.history import StageTime, read_history
from drsft.storage import LocalStore
from tests.ray.test_runs import ROOT, SMALL, planned_ids, problem_ids, run_folder
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

CANARY = f"canary-{uuid.uuid4().hex}"  # not written here: the job ships this file too
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "TEACHER_KEY", "WANDB_API_KEY")
BIN = Path(sys.executable).parent
GROUPS = {"rollout": 2, "training": 2}
JOB = (
    *SMALL,
    "resources.rewrite_group=rollout",
    "resources.train_group=training",
    "train.num_epochs=8",
    "train.checkpoint_every_steps=4",
)
LOSSES = {  # stage -> the group that works on it, and a sign that it has done a part
    "rewrite": ("rollout", "rewrite/commits/*.json"),
    "gap": ("rollout", "gap/scores-*/commits/*.json"),
    "train": ("training", "train/*/seed-0/checkpoints/*/commit.json"),
    "evaluate": ("rollout", "evaluate/base/*/commits/*.json"),
}
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
    """Two jobs, one that lost nodes and one with a mistake, and what they left."""

    folder: Path  # the run's
    ray: Path  # Ray's folder
    lost_at: dict[str, float]  # by stage, seconds since 1970
    done: subprocess.CompletedProcess[str]
    failing: subprocess.CompletedProcess[str]
    jobs: str  # what the job server tells of them
    seen: dict[str, Any] | None  # what Prometheus saw; None without it


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


def lose_nodes(cluster: LocalCluster, folder: Path, job: Future[Any]) -> dict[str, float]:
    """Waits for each stage to have done a part, then replaces its node; when that was."""
    lost_at: dict[str, float] = {}
    for stage, (group, sign) in LOSSES.items():
        wait_until(lambda sign=sign: job.done() or any(folder.glob(sign)), timeout_s=600)
        if job.done():
            return lost_at
        lost_at[stage] = time.time()
        cluster.replace(group)
    return lost_at


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
    folder = run_folder(storage)
    environment = dict.fromkeys(SECRETS, CANARY) | {"RAY_metrics_report_interval_ms": "3000"}
    with (
        local_cluster(GROUPS, environment=environment) as cluster,
        prometheus(cluster.folder, watch) as url,
        ThreadPoolExecutor(1) as thread,
    ):
        job = thread.submit(submit, cluster.dashboard, *JOB, f"storage={storage}")
        lost_at = lose_nodes(cluster, folder, job)
        done = job.result()
        failing = submit(cluster.dashboard, "train.learning_rat=1")
        seen = None
        if url is not None:
            names = json.loads(told(f"{url}/api/v1/label/__name__/values"))["data"]
            seen = {"names": names, "fired": asked(url, FIRED), "commits": asked(url, COMMITS)}
        jobs = told(f"{cluster.dashboard}/api/jobs/")
        yield Finished(folder, cluster.folder, lost_at, done, failing, jobs, seen)


def test_the_job_runs_to_its_end_and_names_its_report(finished: Finished) -> None:
    done, folder = finished.done, finished.folder
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{folder}/report/index.html" in done.stdout
    rows = json.loads((folder / "report/summary.json").read_text())
    assert [row["arm"] for row in rows] == ["base", "sft", "dr+dft"]
    assert all(row["num_problems"] == 20 and row["k"] == 2 for row in rows)
    assert "<html" in (folder / "report/index.html").read_text()


def test_a_node_lost_in_each_stage_loses_and_doubles_nothing(finished: Finished) -> None:
    folder = finished.folder
    history = {time.stage: time for time in read_history(LocalStore(folder))}
    assert history.keys() == {"start", *LOSSES, "report"}

    def is_within(stage: StageTime, at: float) -> bool:
        return stage.began_at < at < stage.began_at + stage.wall_s

    late = [stage for stage, at in finished.lost_at.items() if not is_within(history[stage], at)]
    assert late == [], "the node must be lost while the stage runs"
    assert finished.lost_at.keys() == LOSSES.keys()
    assert sorted(problem_ids(folder)) == sorted(planned_ids(folder))
    for metrics in folder.glob("train/*/seed-0/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
        assert steps == list(range(1, len(steps) + 1))


def test_a_mistake_in_the_configuration_ends_the_job_with_its_own_code(finished: Finished) -> None:
    assert finished.failing.returncode != 0
    assert "train.learning_rat: unknown key" in finished.failing.stdout + finished.failing.stderr
    assert "exit code 2" in finished.jobs


def test_no_secret_of_the_environment_is_in_anything_that_was_written_or_said(finished: Finished) -> None:
    said = [finished.jobs, *(job.stdout + job.stderr for job in (finished.done, finished.failing))]
    assert [text for text in said if CANARY in text] == []
    roots = (finished.folder, finished.ray)
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_actors_log_what_they_did_and_to_which_shard(finished: Finished) -> None:
    lines = [
        json.loads(line)
        for path in finished.ray.glob("session_2*/logs/worker-*.err")
        for line in path.read_text(errors="replace").splitlines()
        if '"message": "shard committed"' in line
    ]
    assert {line["shard"] for line in lines} == {f"{number:05d}" for number in range(12)}
    assert {(line["run"], line["stage"]) for line in lines} == {(finished.folder.name, "rewrite")}


def test_prometheus_sees_every_metric_of_a_run_and_an_alert_fires(finished: Finished) -> None:
    if finished.seen is None:
        pytest.skip("no Prometheus on this machine: apt-get install -y prometheus")
    known = set(finished.seen["names"])
    rare = {"drsft_engine_deaths_total"}  # no engine died
    assert [m.name for m in RUN_METRICS if m.name not in rare and not set(m.exported_names) <= known] == []
    [commits] = finished.seen["commits"]
    assert 10 <= float(commits["value"][1]) <= 14, "the two under way may die before they tell, or tell twice"
    assert commits["metric"]["run"] == finished.folder.name
    assert "rewrite" in {alert["metric"]["stage"] for alert in finished.seen["fired"]}
