"""Whole jobs on one process: resuming, exporting, failing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from drsft.config import Arm, Dft, Sft, Train
from drsft.errors import StageError, StorageError
from drsft.storage import LocalStore
from drsft.train import loop
from drsft.train.checkpoint import commits
from drsft.train.export import Export, export_model
from drsft.train.job import Job, Target, Training
from drsft.train.loop import train_one
from drsft.train.model import ScoringModel, load_model
from drsft.train.optimiser import learning_rate
from drsft.train.pack import PackedRows
from drsft.train.step import train_step
from drsft.train.world import World
from tests.support.train import END_OF_TURN, make_rows, save_tiny_model, scored

NUM_EXAMPLES = 38  # an odd number of rows: two processes cannot share them evenly
TRAIN = Train(
    batch_rows=4, micro_batch_rows=2, num_epochs=2, learning_rate=3e-3, checkpoint_every_steps=2, seq_len=32
)
JOB = Job(arm=Arm(name="dft", objective=Dft()), seed=0)


class KilledError(Exception):
    pass


def run(
    location: str,
    folder: Path,
    *,
    job: Job = JOB,
    train: Train = TRAIN,
    rows: PackedRows | None = None,
    held_out: PackedRows | None = None,
    die_after: int | None = None,
    seen: list[int] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Trains into `folder`; the lines of its metrics without the clock's. `seen` collects the steps."""

    def on_step(step: int, num_steps: int, metrics: dict[str, float]) -> None:
        if seen is not None:
            seen.append(step)
        if step == die_after:
            raise KilledError

    target = Target(location=location, compute_dtype=torch.float32)
    store = LocalStore(folder)
    rows = rows or make_rows(NUM_EXAMPLES)
    training = Training(job=job, settings=train, target=target, rows=rows, held_out=held_out, world=World())
    train_one(training, store=store, on_step=on_step, **options)
    return metrics_in(store)


def metrics_in(store: LocalStore) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in store.read("metrics.jsonl").decode().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("step_s", "tokens_per_s")} for row in rows]


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), dropout=0.1)


@pytest.fixture(scope="module")
def uninterrupted(location: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(location, folder)
    return folder


@pytest.mark.parametrize("die_after", [1, 2, 5, 8])
def test_resuming_equals_not_stopping_bit_for_bit(
    location: str, uninterrupted: Path, tmp_path: Path, die_after: int
) -> None:
    with pytest.raises(KilledError):
        run(location, tmp_path, die_after=die_after)
    assert run(location, tmp_path) == metrics_in(LocalStore(uninterrupted))
    weights = "export/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (uninterrupted / weights).read_bytes()


def committed_steps(folder: Path) -> list[int]:
    return [commit.step for commit in commits(LocalStore(folder))]


def test_a_checkpoint_without_its_commit_does_not_exist(
    location: str, uninterrupted: Path, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        run(location, tmp_path, die_after=7)
    before, newest = committed_steps(tmp_path)[-2:]
    (tmp_path / f"checkpoints/step-{newest:06d}/commit.json").unlink()
    (tmp_path / f"checkpoints/step-{newest:06d}/.metadata").write_bytes(b"half of a file")
    seen: list[int] = []
    again = run(location, tmp_path, seen=seen)
    assert seen[0] == before + 1
    assert again == metrics_in(LocalStore(uninterrupted))


@pytest.mark.parametrize("num_kept", [1, 2])
def test_only_the_newest_checkpoints_stay(location: str, tmp_path: Path, num_kept: int) -> None:
    run(location, tmp_path, train=TRAIN.model_copy(update={"num_checkpoints": num_kept}))
    steps = committed_steps(tmp_path)
    assert steps == [2, 4, 6, 8, 10][-num_kept:]
    folders = {path.name for path in (tmp_path / "checkpoints").iterdir() if any(path.iterdir())}
    assert folders == {f"step-{step:06d}" for step in steps}


def test_an_export_that_fails_costs_no_step(
    location: str, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "export_model", fail)
        with pytest.raises(StorageError):
            run(location, tmp_path)
    seen: list[int] = []
    assert run(location, tmp_path, seen=seen) == metrics_in(LocalStore(uninterrupted))
    assert seen == []
    weights = "export/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (uninterrupted / weights).read_bytes()


def test_a_wish_for_a_checkpoint_is_met_before_the_next_step(location: str, tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(KilledError):
        run(location, tmp_path, die_after=4, seen=seen, wants_checkpoint=lambda: seen[-1] == 3)
    assert committed_steps(tmp_path) == [2, 3]


def test_done_tells_what_was_trained(uninterrupted: Path) -> None:
    done = json.loads((uninterrupted / "done.json").read_bytes())
    rows = make_rows(NUM_EXAMPLES)
    assert done["steps"] == 2 * -(-len(rows) // 4)
    assert done["loss_tokens"] == 2 * rows.loss_mask_T.sum()
    assert done["final"]["step"] == done["steps"]


def test_training_lowers_the_loss(uninterrupted: Path) -> None:
    metrics = metrics_in(LocalStore(uninterrupted))
    assert metrics[-1]["ce"] < metrics[0]["ce"]


def test_the_seed_changes_the_run(location: str, uninterrupted: Path, tmp_path: Path) -> None:
    other = run(location, tmp_path, job=Job(arm=JOB.arm, seed=1))
    assert other != metrics_in(LocalStore(uninterrupted))


def test_export_loads_in_transformers_with_the_trained_probabilities(tmp_path: Path) -> None:
    location = save_tiny_model(tmp_path / "model")
    (tmp_path / "model/tokenizer_config.json").write_text('{"kept": "as it is"}')
    # The last step's metrics are of the weights before its update: without a learning rate nothing moves.
    train = TRAIN.model_copy(update={"learning_rate": 1e-30})
    run(location, tmp_path / "frozen", train=train)
    run(location, tmp_path / "moved")
    frozen, moved = (load_model(str(tmp_path / name / "export")) for name in ("frozen", "moved"))
    rows = make_rows(NUM_EXAMPLES)
    before, same, after = (
        scored(ScoringModel(model), rows) for model in (load_model(location), frozen, moved)
    )
    torch.testing.assert_close(before, same, rtol=0, atol=1e-6)
    assert after.mean() > before.mean() + 0.1
    assert (tmp_path / "moved/export/tokenizer_config.json").read_text() == '{"kept": "as it is"}'
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "moved/export")
    assert exported.generation_config.eos_token_id == [END_OF_TURN, 2]


def test_export_in_bf16_says_so(location: str, tmp_path: Path) -> None:
    model = ScoringModel(load_model(location))
    export = Export(target=location, dtype=torch.bfloat16)
    export_model(LocalStore(tmp_path), model, export, world=World())
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export")  # in the dtype that its config names
    assert {parameter.dtype for parameter in exported.parameters()} == {torch.bfloat16}
    assert exported.config.architectures == ["Qwen2ForCausalLM"]


def exported_settings(folder: Path, file: str, *, end_of_turn_id: int | None) -> bytes:
    """The generation settings that leave with a target whose `file` contradicts itself."""
    location = save_tiny_model(folder / "model")
    if file == "config.json":  # where old models have them
        (folder / "model/generation_config.json").unlink()
    settings = json.loads((folder / "model" / file).read_bytes()) | {"do_sample": False, "temperature": 0.6}
    (folder / "model" / file).write_text(json.dumps(settings))
    export = Export(target=location, dtype=torch.float32, end_of_turn_id=end_of_turn_id)
    export_model(LocalStore(folder), ScoringModel(load_model(location)), export, world=World())
    return (folder / "export/generation_config.json").read_bytes()


@pytest.mark.parametrize(
    ("file", "stops"), [("generation_config.json", [END_OF_TURN, 2]), ("config.json", [END_OF_TURN])]
)
def test_settings_that_contradict_themselves_are_exported_and_stop_as_others(
    tmp_path: Path, file: str, stops: list[int]
) -> None:
    settings = json.loads(exported_settings(tmp_path, file, end_of_turn_id=5))
    assert (settings["do_sample"], settings["temperature"]) == (False, 0.6)
    assert settings["eos_token_id"] == [5, *stops]


def test_a_targets_own_generation_config_is_exported_byte_for_byte(tmp_path: Path) -> None:
    exported = exported_settings(tmp_path, "generation_config.json", end_of_turn_id=END_OF_TURN)
    assert exported == (tmp_path / "model/generation_config.json").read_bytes()


def test_a_loss_that_is_no_number_names_its_step(location: str, tmp_path: Path) -> None:
    causal_lm = load_model(location)
    causal_lm.model.norm.weight.data.fill_(float("nan"))
    causal_lm.save_pretrained(tmp_path / "broken")
    with pytest.raises(StageError, match="step 1: the loss is nan"):
        run(str(tmp_path / "broken"), tmp_path / "out", job=Job(arm=Arm(name="sft", objective=Sft()), seed=0))
    assert not (tmp_path / "out/done.json").exists()


def test_the_steps_before_such_a_loss_are_kept(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(
        training: Training, model: ScoringModel, optimiser: Any, step: int, **options: Any
    ) -> dict[str, float]:
        if step == 3:
            model.causal_lm.model.norm.weight.data.fill_(float("nan"))
        return train_step(training, model, optimiser, step, **options)

    monkeypatch.setattr(loop, "train_step", poisoned)
    rare = TRAIN.model_copy(update={"checkpoint_every_steps": 100})
    with pytest.raises(StageError, match="step 4: the loss is nan"):
        run(location, tmp_path, train=rare)
    assert [row["step"] for row in metrics_in(LocalStore(tmp_path))] == [1, 2, 3]
    assert any((tmp_path / "tensorboard").iterdir())


def test_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    rates = [learning_rate(step, num_steps=10, peak=1.0, warmup_ratio=0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05
