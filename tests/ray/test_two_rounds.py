"""Two rounds with real engines, the second killed: nothing is lost or doubled, and no engine is stale."""

import signal
import subprocess
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.policy.prompts import model_location
from drsft.records import Attempt, Record
from drsft.run.rounds import rounds_of
from drsft.run.run import Run
from drsft.storage import open_store
from tests.ray.test_runs import ROOT, drsft, problem_ids, run_folder

pytestmark = pytest.mark.ray

SMALLER = (
    "problems.limit=24",
    "train.arms=[{name: dr+dft}]",
    "train.learning_rate=3.0e-3",  # so that the new weights say something else
    "evaluate.benchmarks=[]",  # tests/ray/test_runs.py and test_evaluation.py evaluate
    "resources.train_workers=1",
    "rounds={count: 2, tolerance: 100}",  # no gap grows so much: what was solved alone is carried over
)


def records_in(folder: Path) -> dict[str, Record]:
    shards = Run(open_store(str(folder))).read_records()
    return {one.problem.problem_id: one for _, records in shards for one in records}


def files_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def kill_in_the_second_rounds_rewriting(command: list[str]) -> list[psutil.Process]:
    """What it leaves running for a while: its cluster, which notices."""
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    children: list[psutil.Process] = []
    is_second = False
    for line in process.stderr:
        is_second = is_second or line.startswith("round 2")
        if is_second and line.startswith("rewrite"):
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    return children


def logprob_error(model: torch.nn.Module, record: Record, attempt: Attempt) -> float:
    """The largest difference between the engine's log-probs and those of a plain forward pass."""
    completion = attempt.rollout.completion
    ids = torch.tensor([[*record.prompt_ids, *completion.token_ids]])
    with torch.no_grad():
        logits_TV = model(ids, use_cache=False).logits[0, len(record.prompt_ids) - 1 : -1]
    expected_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    return float((torch.tensor(completion.behaviour_logprobs_T) - expected_T).abs().max())


@pytest.mark.timeout(900)  # two whole runs of two rounds
def test_a_second_round_goes_on_after_a_kill_and_samples_with_the_new_weights(tmp_path: Path) -> None:
    command = drsft("run", tmp_path, *SMALLER)
    folder = run_folder(tmp_path, *SMALLER)
    config: RunConfig = load_config(Path(command[4]), command[5:])
    _, second = rounds_of(Run(open_store(str(folder)), config))
    left = kill_in_the_second_rounds_rewriting(command)
    finished = (folder / "rewrite", folder / "train", folder / second.prefix / "rewrite/commits")
    before = {path: time for one in finished for path, time in files_below(one).items()}

    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was done is not done again"
    assert "carried over" in done.stderr
    assert "the target solved" in done.stderr, "the end says what became of the problems"
    inner = folder / second.prefix
    assert sorted(problem_ids(inner)) == sorted(problem_ids(folder))
    assert len(set(problem_ids(inner))) == 24

    first, later = records_in(folder), records_in(inner)
    survey = [row for path in (inner / "survey/data").glob("*") for row in pq.read_table(path).to_pylist()]
    carried = {row["problem_id"] for row in survey if row["standing"] == "carried"}
    assert {name for name, record in later.items() if record == first[name]} >= carried
    again = [one for one in later.values() if one.round == 2]
    assert carried
    assert again

    sampled_anew = {
        name
        for name, record in later.items()
        if any(a.rollout.round == 2 and a.rollout.phase == "self_align" for a in record.attempts)
    }
    scored = [row for path in inner.glob("gap/scores-*/data/*") for row in pq.read_table(path).to_pylist()]
    assert {row["row_id"] for row in scored if row["role"] == "sample"} == sampled_anew

    sampled = [(one, a) for one in again for a in one.attempts if a.rollout.phase == "self_align"][:40]
    trained = AutoModelForCausalLM.from_pretrained(second.run.config.target.model, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(model_location("embedded"), dtype=torch.float32)
    assert max(logprob_error(trained, one, attempt) for one, attempt in sampled) < 1e-3
    assert max(logprob_error(base, one, attempt) for one, attempt in sampled) > 0.1, "the weights must differ"
    page = (folder / "report/index.html").read_text()
    assert f'href="../{second.prefix}/report/index.html"' in page
    assert "<html" in (inner / "report/index.html").read_text()
    _, alive = psutil.wait_procs(left, timeout=90)  # most of that minute has passed by now
    assert not alive
