"""Whole runs on a local Ray with real engines: what a kill in the middle leaves, and a second driver."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from drsft.config.configfile import load_config

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


def planned_shards(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "problems/shards").glob("*.parquet")}


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
        if line.startswith("rewrite") and any((folder / "rewrite/data").glob("*.parquet")):
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    commits = (folder / "rewrite/commits").glob("*.json")
    before = {path: path.stat().st_mtime_ns for path in commits}
    assert len(before) < 12
    undone = next(iter(planned_shards(folder) - {path.stem for path in before}))
    some_data = next((folder / "rewrite/data").iterdir())
    shutil.copy(some_data, folder / f"rewrite/data/{undone}-0123456789abcdef.parquet")  # no commit names it

    two = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [driver.communicate()[1] for driver in two]
    assert sorted(driver.returncode for driver in two) == [0, 3], "of two drivers at once one works"
    assert "works on" in said[0] + said[1]
    assert len(problem_ids(folder)) == 48
    assert sorted(problem_ids(folder)) == sorted(planned_ids(folder))
    in_the_folder = pq.read_table(folder / "rewrite/data", columns=["problem_id"])["problem_id"].to_pylist()
    assert sorted(in_the_folder) == sorted(planned_ids(folder)), "the whole folder will do"
    assert {path: path.stat().st_mtime_ns for path in before} == before, (
        "what was committed is not done again"
    )

    written = {path: path.stat().st_mtime_ns for path in (folder / "rewrite").rglob("*") if path.is_file()}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    again = {path: path.stat().st_mtime_ns for path in (folder / "rewrite").rglob("*") if path.is_file()}
    assert again == written, "a finished run changes nothing when it is started again"
    _, alive = psutil.wait_procs(children, timeout=300)  # Ray's agents notice last, after a minute or more
    assert not alive, "the dead driver's cluster must end with it"


def test_a_request_to_stop_ends_the_run_in_order_and_says_how_to_go_on(tmp_path: Path) -> None:
    many = "problems.limit=240"  # more than are done before the signal arrives, however busy the machine is
    command = drsft("rewrite", tmp_path, many)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("rewrite") and not line.split()[1].startswith("0/"):
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)  # tests/process/test_end_requests.py has the others
            break
    rest = process.stderr.read()
    assert process.wait(timeout=120) == 143
    committed = len(problem_ids(run_folder(tmp_path, many)))
    assert "finishing running work" in rest
    assert 8 <= committed < 240, "the two shards that were under way are committed, and no further ones"
    assert rest.strip().endswith("stopped; run the same command to resume")
    _, alive = psutil.wait_procs(children, timeout=90)
    assert not alive
