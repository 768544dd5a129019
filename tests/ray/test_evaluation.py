"""A killed evaluation goes on without sampling again; another arm and benchmark join what is there."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from drsft.config.configfile import load_config

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs/configs/quickstart.yaml"
NUM_SAMPLES, NUM_PROBLEMS = 4, 120
HELD_OUT = (
    f"{{name: held-out, problems: {{path: 'embedded:held_out', limit: {NUM_PROBLEMS}, shard_size: 10}}}}"
)
SFT = "{name: sft, data: expert, objective: {kind: sft}}"
SMALL = (
    "problems.limit=16",
    "problems.shard_size=16",
    "resources.rewrite_actors=1",
    "resources.train_workers=1",
    "train.seeds=[0]",
    "train.num_epochs=1",
    f"evaluate.num_samples={NUM_SAMPLES}",
)
ONE_ARM = (f"train.arms=[{SFT}]", f"evaluate.benchmarks=[{HELD_OUT}]")
TWO_ARMS = (
    f"train.arms=[{SFT}, {{name: dr+dft}}]",
    f"evaluate.benchmarks=[{{name: other, problems: {{path: 'embedded:held_out', limit: 20}}}}, {HELD_OUT}]",
)


def drsft(command: str, storage: Path, *overrides: str) -> list[str]:
    shared = [str(CONFIG), *SMALL, f"storage={storage}", *overrides]
    return [sys.executable, "-m", "drsft.cli", command, *shared]


def finish(command: list[str]) -> str:
    """What a command that must succeed printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def written(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob(pattern) if path.is_file()}


def samples(folder: Path, model: str, benchmark: str) -> Counter[tuple[str, int]]:
    """How often each sample of each problem lies there."""
    found: Counter[tuple[str, int]] = Counter()
    for path in folder.glob(f"evaluate/{model}/{benchmark}-*/data/*.parquet"):
        table = pq.read_table(path, columns=["problem_id", "sample_index"])
        found.update(zip(table["problem_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True))
    return found


def is_whole(found: Counter[tuple[str, int]], num_problems: int) -> bool:
    return len(found) == num_problems * NUM_SAMPLES and set(found.values()) == {1}


@pytest.mark.timeout(900)  # three commands, each with a cluster of its own
def test_nothing_that_is_there_is_done_again(tmp_path: Path) -> None:
    run_id = load_config(CONFIG, (*SMALL, *ONE_ARM)).run_id
    assert run_id == load_config(CONFIG, (*SMALL, *TWO_ARMS)).run_id, "benchmarks and arms do not name a run"
    folder = tmp_path / run_id

    commits = "evaluate/**/commits/*.json"
    process = subprocess.Popen(
        drsft("run", tmp_path, *ONE_ARM),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for _ in process.stderr:
        if written(folder, commits):
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL, "the evaluation ended before it could be killed"
    before = written(folder, commits)
    assert 0 < len(before) < 2 * NUM_PROBLEMS // 10

    scores = finish(drsft("evaluate", tmp_path, *ONE_ARM))
    assert is_whole(samples(folder, "base", "held-out"), NUM_PROBLEMS)
    assert is_whole(samples(folder, "sft-*/seed-0", "held-out"), NUM_PROBLEMS)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "held-out" in scores

    places = ("rewrite/**/*", "train/sft-*/**/*", "evaluate/**/held-out-*/**/*", "benchmarks/held-out-*/**/*")
    done = {place: written(folder, place) for place in places}
    assert all(done.values())
    finish(drsft("run", tmp_path, *TWO_ARMS))
    for place in ("rewrite/**/*", "train/sft-*/**/*"):
        assert written(folder, place) == done[place]
    assert done["evaluate/**/held-out-*/**/*"].items() <= written(folder, places[2]).items()
    assert is_whole(samples(folder, "dr+dft-*/seed-0", "held-out"), NUM_PROBLEMS)
    assert is_whole(samples(folder, "base", "other"), 20)
    assert is_whole(samples(folder, "base", "held-out"), NUM_PROBLEMS)
