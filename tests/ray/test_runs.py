"""Whole runs on a local Ray cluster with real engines: the job, and what a kill in the middle leaves."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from drsft.configfile import load_config

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs/configs/quickstart.yaml"
SMALL = (
    "problems.limit=48",
    "problems.shard_size=4",
    "resources.rewrite_actors=1",
    "resources.shards_in_flight_per_actor=2",
    "train.seeds=[0]",
    "train.num_epochs=1",
    "train.arms=[{name: sft, data: expert, objective: {kind: sft}}, {name: dr+dft}]",
    "evaluate.num_samples=2",
    "evaluate.benchmarks=[{name: held-out, problems: {path: 'embedded:held_out', limit: 20}}]",
)


def drsft(command: str, storage: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "drsft.cli", command, str(CONFIG), *SMALL, f"storage={storage}", *overrides]


def run_folder(storage: Path, *overrides: str) -> Path:
    return storage / load_config(CONFIG, (*SMALL, *overrides)).run_id


def problem_ids(folder: Path) -> list[str]:
    commits = [json.loads(path.read_text()) for path in sorted((folder / "rewrite/commits").glob("*.json"))]
    tables = [pq.read_table(folder.parent / folder.name / commit["data_key"]) for commit in commits]
    return [one for table in tables for one in table["problem_id"].to_pylist()]


def planned_ids(folder: Path) -> list[str]:
    tables = [pq.read_table(path) for path in sorted((folder / "problems/shards").glob("*.parquet"))]
    return [one for table in tables for one in table["problem_id"].to_pylist()]


def test_a_driver_killed_in_mid_rewrite_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = drsft("rewrite", tmp_path)
    folder = run_folder(tmp_path)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    children: list[psutil.Process] = []
    for line in process.stderr:
        if line.startswith("rewrite") and not line.split()[1].startswith("0/"):
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    commits = (folder / "rewrite/commits").glob("*.json")
    before = {path: path.stat().st_mtime_ns for path in commits}
    assert len(before) < 12

    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert len(problem_ids(folder)) == 48
    assert sorted(problem_ids(folder)) == sorted(planned_ids(folder))
    assert {path: path.stat().st_mtime_ns for path in before} == before, (
        "what was committed is not done again"
    )

    written = {path: path.stat().st_mtime_ns for path in (folder / "rewrite").rglob("*") if path.is_file()}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    again = {path: path.stat().st_mtime_ns for path in (folder / "rewrite").rglob("*") if path.is_file()}
    assert again == written, "a finished run changes nothing when it is started again"
    _, alive = psutil.wait_procs(children, timeout=90)  # Ray's agents notice last, after a minute
    assert not alive, "the dead driver's cluster must end with it"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_request_to_stop_ends_the_run_in_order_and_says_how_to_go_on(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    command = drsft("rewrite", tmp_path)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("rewrite"):
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(sent)
            break
    rest = process.stderr.read()
    assert process.wait(timeout=120) == code
    assert rest.strip().endswith("stopped; the same command goes on from here")
    _, alive = psutil.wait_procs(children, timeout=90)
    assert not alive


@pytest.fixture
def ray_head() -> Iterator[str]:
    """A Ray head with its job server on its own ports; only its own processes are ended."""
    with tempfile.TemporaryDirectory(
        prefix="drsft-", dir="/tmp"
    ) as folder:  # Ray's socket paths must be short
        ports = {"port": 36379, "dashboard-port": 38265, "ray-client-server-port": 31001}
        options = [f"--{name}={port}" for name, port in ports.items()]
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", *options]
        command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=2"]
        command += [f"--temp-dir={folder}", "--disable-usage-stats", "--include-dashboard=true"]
        log = Path(folder) / "head.log"
        with log.open("w") as file:
            head = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            yield "http://127.0.0.1:38265"
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(timeout=60)


class NotReadyError(Exception):
    """The head answers before its agent does."""


@retry(
    retry=retry_if_exception_type(NotReadyError), stop=stop_after_delay(90), wait=wait_fixed(1), reraise=True
)
def submit_job(address: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    client = str(Path(sys.executable).parent / "ray")
    submit = [client, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--"]
    job = [sys.executable, "jobs/rewrite_and_train.py", "--config", "jobs/configs/quickstart.yaml"]
    done = subprocess.run([*submit, *job, *overrides], cwd=ROOT, capture_output=True, text=True, check=False)
    if "No available agent" in done.stderr or "Failed to connect" in done.stderr:
        raise NotReadyError(done.stderr)
    return done


def test_the_job_runs_under_ray_job_submit_and_names_its_report(ray_head: str, tmp_path: Path) -> None:
    done = submit_job(ray_head, *SMALL, f"storage={tmp_path}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = run_folder(tmp_path)
    assert f"{folder}/report/index.html" in done.stdout
    assert sorted(problem_ids(folder)) == sorted(planned_ids(folder))
    rows = json.loads((folder / "report/summary.json").read_text())
    assert [row["arm"] for row in rows] == ["base", "sft", "dr+dft"]
    assert all(row["num_problems"] == 20 and row["k"] == 2 for row in rows)
    assert "<html" in (folder / "report/index.html").read_text()

    failing = submit_job(ray_head, "train.learning_rat=1")
    assert failing.returncode != 0
    assert "train.learning_rat: unknown key" in failing.stdout + failing.stderr
