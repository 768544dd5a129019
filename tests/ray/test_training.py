"""The training stage on a real local Ray: two gloo workers, several jobs, one of which loses a worker."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.support.waiting import wait_until

ray = pytest.importorskip("ray")

from drsft.config import Arm, Dft, Problems, Prompts, Resources, RunConfig, Sft, Target, Train  # noqa: E402
from drsft.errors import ModelError, StageError  # noqa: E402
from drsft.policy.prompts import load_prompter  # noqa: E402
from drsft.run import layout  # noqa: E402
from drsft.run.run import Run  # noqa: E402
from drsft.stages.progress_board import start_board  # noqa: E402
from drsft.stages.training import is_complete, run_training  # noqa: E402
from drsft.storage import LocalStore  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

VOCAB, END_OF_TURN = 61, 1
ARMS = (Arm(name="sft", data="expert", objective=Sft()), Arm(name="dr+dft", objective=Dft()))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_OF_TURN,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return str(folder)


def records(num: int = 40) -> pa.Table:
    generator = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return [int(token) for token in generator.integers(3, VOCAB, generator.integers(low, high))]

    columns: dict[str, list[Any]] = {
        "problem_id": [f"problem-{index:03d}" for index in range(num)],
        "source": ["own"] * num,
        "prompt_ids": [ids(2, 8) for _ in range(num)],
        "completion_ids": [[*ids(1, 14), END_OF_TURN] for _ in range(num)],
        "expert_completion_ids": [[*ids(1, 20), END_OF_TURN] for _ in range(num)],
    }
    return pa.table(columns)


def started(folder: Path) -> str:
    """The run's store, with the turn of a model that does not think, as a run's start leaves it."""
    turn = load_prompter("embedded", Prompts()).turn
    LocalStore(folder).create(layout.TURN, json.dumps(asdict(turn)).encode())
    return str(folder)


def view(data: str) -> pa.Table:
    return records()


def config(model: str, **train: Any) -> RunConfig:
    options = {
        "arms": ARMS,
        "seeds": (0, 1),
        "seq_len": 24,
        "batch_rows": 4,
        "micro_batch_rows": 2,
        "learning_rate": 3e-3,
        "num_epochs": 6,
        "checkpoint_every_steps": 2,
        **train,
    }
    return RunConfig(
        name="test",
        problems=Problems(path="unused"),
        target=Target(model=model, dtype="float32"),
        train=Train(**options),
        resources=Resources(train_workers=2, max_train_failures=2),
    )


def place(folder: Path, job: str) -> Path:
    """Of "sft/seed-0"; an arm's folder ends with the fingerprint of its settings."""
    arm, _, seed = job.partition("/")
    (found,) = folder.glob(f"train/{arm}-*/{seed}")
    return found


def losses(folder: Path, job: str) -> list[tuple[int, float]]:
    lines = (place(folder, job) / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["loss"]) for row in map(json.loads, lines)]


def computed(folder: Path) -> list[dict[str, Any]]:
    """The metrics of the only job, without the clock's."""
    lines = (place(folder, "dr+dft/seed-0") / "metrics.jsonl").read_text().splitlines()
    clocks = ("step_s", "tokens_per_s")
    return [{k: v for k, v in json.loads(line).items() if k not in clocks} for line in lines]


def committed(folder: Path) -> int:
    """The newest step that a checkpoint was committed for."""
    found = folder.glob("train/dr+dft-*/seed-0/checkpoints/*/commit.json")
    return max((int(path.parent.name.removeprefix("step-")) for path in found), default=0)


@pytest.fixture(scope="module")
def finished(cluster: None, model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The model's folder is given relative to where the run was started."""
    folder = tmp_path_factory.mktemp("finished")
    board = start_board()
    with contextlib.chdir(Path(model).parent):
        run_training(config(Path(model).name), started(folder), view, board=board)
    return folder, board


def test_a_training_that_is_asked_to_end_saves_itself_and_goes_on_later(
    cluster: None, model: str, tmp_path: Path
) -> None:
    one = config(model, arms=(Arm(name="dr+dft"),), seeds=(0,), checkpoint_every_steps=1000)
    board = start_board()
    board.drain.remote()
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        run_training(one, started(tmp_path), view, board=board)
    assert committed(tmp_path) == 1, "it is asked after the first step"
    assert not is_complete(Run(LocalStore(tmp_path), one))
    run_training(one, started(tmp_path), view, board=None)
    steps = [step for step, _ in losses(tmp_path, "dr+dft/seed-0")]
    assert steps == list(range(1, len(steps) + 1))


def test_every_arm_and_seed_is_exported_and_done(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    for job in ("sft/seed-0", "sft/seed-1", "dr+dft/seed-0", "dr+dft/seed-1"):
        done = json.loads((place(folder, job) / "done.json").read_bytes())
        assert done["num_workers"] == 2
        assert [step for step, _ in losses(folder, job)] == list(range(1, done["steps"] + 1))
        assert (place(folder, job) / "export/model.safetensors").is_file()
    (packed,) = folder.glob("train/packed-expert-*.json")
    counts = json.loads(packed.read_bytes())
    assert counts["examples"] + counts["dropped_too_long"] == 40
    assert counts["dropped_too_long"] > 0


def test_the_board_hears_how_far_all_jobs_are(finished: tuple[Path, Any]) -> None:
    folder, board = finished
    (stage,) = ray.get(board.snapshot.remote())
    steps = [json.loads(path.read_bytes())["steps"] for path in folder.glob("train/*/*/done.json")]
    assert (stage.stage, stage.done, stage.total) == ("train", sum(steps), sum(steps))
    assert stage.note == "dr+dft seed 1"


def test_a_finished_run_starts_no_workers(finished: tuple[Path, Any], model: str) -> None:
    folder, _ = finished
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    run_training(config(model), started(folder), view, board=None)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


LONG = {"arms": ARMS[1:], "seeds": (0,), "num_epochs": 40, "checkpoint_every_steps": 10}


@pytest.fixture(scope="module")
def long(cluster: None, model: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The metrics of a run of some hundred steps that nothing interrupts."""
    folder = tmp_path_factory.mktemp("long")
    run_training(config(model, **LONG), started(folder), view, board=None)
    return computed(folder)


def test_workers_killed_three_times_at_random_change_nothing(
    long: list[dict[str, Any]], model: str, tmp_path: Path
) -> None:
    generator = np.random.default_rng()
    edges = np.linspace(0, len(long) - 40, 4)
    wanted = [int(generator.integers(low, high)) for low, high in pairwise(edges)]
    resources = Resources(train_workers=2, max_train_failures=len(wanted))
    whole = config(model, **LONG).model_copy(update={"resources": resources})
    gone: set[int] = set()
    num_killed = 0
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(run_training, whole, started(tmp_path), view, board=None)
        for step in wanted:
            wait_until(
                lambda step=step: training.done() or committed(tmp_path) >= step,  # type: ignore[misc]
                timeout_s=300,  # two workers start anew on a machine that may be busy
            )
            group = new_group(gone)
            os.kill(int(generator.choice(group)), signal.SIGKILL)
            gone |= set(group)  # a group starts anew as a whole
            num_killed += 1
        training.result(timeout=200)
    assert num_killed == len(wanted), f"kills after steps {wanted}"
    assert computed(tmp_path) == long


def test_one_worker_goes_on_where_two_stopped(long: list[dict[str, Any]], model: str, tmp_path: Path) -> None:
    two, one = (
        config(model, **LONG).model_copy(
            update={"resources": Resources(train_workers=num, max_train_failures=0)}
        )
        for num in (2, 1)
    )
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(run_training, two, started(tmp_path), view, board=None)
        wait_until(lambda: training.done() or committed(tmp_path) >= 100)
        os.kill(train_workers()[0], signal.SIGKILL)
        with pytest.raises(StageError):
            training.result(timeout=100)
    assert 100 <= committed(tmp_path) < len(long)
    run_training(one, started(tmp_path), view, board=None)
    done = json.loads((place(tmp_path, "dr+dft/seed-0") / "done.json").read_bytes())
    assert done["num_workers"] == 1
    again = computed(tmp_path)
    for name in (
        "step",
        "loss_tokens",
        "learning_rate",
    ):  # the same rows in every step: the same global batch
        assert [row[name] for row in again] == [row[name] for row in long]
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in long], rel=1e-3)


def test_an_elastic_group_takes_the_room_that_there_is(cluster: None, model: str, tmp_path: Path) -> None:
    resources = Resources(train_workers=1, max_train_workers=2)
    elastic = config(model, arms=ARMS[:1], seeds=(0,), num_epochs=1).model_copy(
        update={"resources": resources}
    )
    run_training(elastic, started(tmp_path), view, board=None)
    done = json.loads((place(tmp_path, "sft/seed-0") / "done.json").read_bytes())
    assert done["num_workers"] == 2


def test_a_loss_that_is_no_number_ends_the_stage_at_once(cluster: None, model: str, tmp_path: Path) -> None:
    broken = Qwen2ForCausalLM.from_pretrained(model)
    broken.model.norm.weight.data.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(StageError, match=r"sft seed 0.*step 1: the loss is nan"):
        run_training(config(str(tmp_path / "broken")), started(tmp_path / "run"), view, board=None)


def test_a_missing_model_is_named_before_any_worker_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        run_training(config(str(tmp_path / "nowhere")), started(tmp_path), view, board=None)


def train_workers() -> list[int]:
    """Process ids of the training workers of this test's own Ray, which are its grandchildren."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_descendant(int(folder.name)):
            try:
                if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it ended meanwhile
                continue
    return sorted(found)


def new_group(gone: set[int]) -> list[int]:
    """Waits for two workers that are not those of before."""
    wait_until(lambda: len(set(train_workers()) - gone) == 2)
    return sorted(set(train_workers()) - gone)


def is_descendant(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False
