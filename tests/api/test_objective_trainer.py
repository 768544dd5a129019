"""The losses of objectives in transformers' Trainer and TRL's SFTTrainer, beside drsft's own training."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import Trainer

import drsft
from drsft.bench.training.train_data import draw_examples, save_examples
from drsft.config import Arm
from drsft.errors import ConfigError
from drsft.train.model import load_model
from tests.api.trainers import Bench, padded_batch, save_tiny_model, step_arguments
from tests.bench.test_train import WORK

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv-peers/bin/python"
ON_A_BATCH = [
    *("sft", "dft", "dft_seq", "dft_geomean", "idft", "idft_phi_clip", "eaft", "eaft_full"),
    *("chord_phi", "p_power", "luffy", "srft"),
]
WITH_START = ["iw_sft", "iw_sft_token", "asft", "sft_kl"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("models")
    return Bench(
        model=save_tiny_model(folder / "model", noise_seed=1), start=save_tiny_model(folder / "start")
    )


def _gradients(model: Any) -> list[Tensor]:
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def _agree(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    scale = max(one.abs().max().item() for one in theirs)
    return len(ours) == len(theirs) and all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-6 * scale) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("kind", [*ON_A_BATCH, *WITH_START])
def test_an_objective_has_the_loss_and_gradient_of_drsft_train(
    kind: str, bench: Bench, tmp_path: Path
) -> None:
    arm = Arm.model_validate({"name": "arm", "objective": kind, "guards": {"exempt_end_of_turn": True}})
    expected, gradients = bench.loss_and_gradient(arm)
    model = load_model(bench.model)
    start = load_model(bench.start) if kind in WITH_START else None
    trainer = drsft.objective_trainer(Trainer, kind, guards=arm.guards, start_model=start)(
        model=model, args=step_arguments(tmp_path)
    )
    loss = trainer.compute_loss(model.train(), padded_batch(bench.examples))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert _agree(_gradients(model), gradients)


@pytest.mark.parametrize("kind", ON_A_BATCH)
def test_the_loss_on_full_logits_is_the_same(kind: str, bench: Bench) -> None:
    arm = Arm.model_validate({"name": "arm", "objective": kind, "guards": {"min_weight": 0.1}})
    expected, gradients = bench.loss_and_gradient(arm)
    model, batch = load_model(bench.model).train(), padded_batch(bench.examples)
    labels = batch.pop("labels")
    loss = drsft.objective_loss(kind, guards={"min_weight": 0.1})(model(**batch), labels)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert _agree(_gradients(model), gradients)


def test_documents_of_a_padding_free_row_count_each_for_itself(bench: Bench, tmp_path: Path) -> None:
    """A weight over whole completions tells documents apart by their positions."""
    arm = Arm.model_validate({"name": "arm", "objective": "dft_geomean"})
    expected, gradients = bench.loss_and_gradient(arm)
    rows = [padded_batch([one]) for one in bench.examples]
    batch = {name: torch.cat([row[name] for row in rows], 1) for name in ("input_ids", "labels")}
    batch["position_ids"] = torch.cat([torch.arange(row["labels"].shape[1])[None] for row in rows], 1)
    model = load_model(bench.model)
    trainer = drsft.objective_trainer(Trainer, "dft_geomean")(model=model, args=step_arguments(tmp_path))
    loss = trainer.compute_loss(model.train(), batch)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert _agree(_gradients(model), gradients)


@pytest.mark.parametrize("make", ["trainer", "function"])
def test_a_step_is_the_same_for_any_accumulation(make: str, bench: Bench, tmp_path: Path) -> None:
    expected, _ = bench.loss_and_gradient(Arm.model_validate({"name": "arm", "objective": "dft"}))
    weights = []
    for batch_size in (6, 2):
        arguments = step_arguments(
            tmp_path,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=6 // batch_size,
            learning_rate=0.1,
            optim="sgd",
        )
        given: dict[str, Any] = {
            "model": load_model(bench.model),
            "args": arguments,
            "train_dataset": Dataset.from_list([{"row": row} for row in range(6)]),
            "data_collator": lambda rows: padded_batch([bench.examples[row["row"]] for row in rows]),
        }
        if make == "trainer":
            trainer = drsft.objective_trainer(Trainer, "dft")(**given)
        else:
            trainer = Trainer(**given, compute_loss_func=drsft.objective_loss("dft"))
        trainer.train()
        [logged] = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert logged["loss"] == pytest.approx(expected, rel=1e-5)
        if make == "trainer":
            assert 0 < logged["effective_sample_size"] < 1
            assert logged["ce"] > logged["loss"]
        weights.append([weight.detach() for weight in trainer.model.parameters()])
    assert _agree(*weights)


def test_evaluation_has_the_loss_and_gives_logits_only_to_metrics(bench: Bench, tmp_path: Path) -> None:
    expected, _ = bench.loss_and_gradient(Arm.model_validate({"name": "arm", "objective": "dft"}))
    seen: list[tuple[int, ...]] = []
    given: dict[str, Any] = {
        "args": step_arguments(tmp_path, per_device_eval_batch_size=6),
        "eval_dataset": Dataset.from_list([{"row": row} for row in range(6)]),
        "data_collator": lambda rows: padded_batch([bench.examples[row["row"]] for row in rows]),
    }
    plain = drsft.objective_trainer(Trainer, "dft")(model=load_model(bench.model), **given)
    assert plain.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    measuring = drsft.objective_trainer(Trainer, "dft")(
        model=load_model(bench.model),
        compute_metrics=lambda found: seen.append(found.predictions.shape) or {},
        **given,
    )
    measuring.evaluate()
    assert seen == [(*padded_batch(bench.examples)["labels"].shape, 8192)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "psft"}, "psft compares with the policy some steps ago"),
        ({"objective": "asft"}, "asft compares with the starting model"),
        ({"objective": "nonesuch"}, "nonesuch"),
        ({"objective": {"kind": "eaft", "top": 3}}, r"unknown key; did you mean 'top_k'"),
        ({"guards": {"exempt_texts": ["x"]}}, "exempt_texts needs the run's tokenizer"),
    ],
)
def test_what_a_trainer_cannot_do_is_refused_in_a_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        drsft.objective_trainer(Trainer, **given)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["asft", "iw_sft", "talr"])
def test_what_logits_alone_do_not_tell_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="compares with another model"):
        drsft.objective_loss(kind)
    with pytest.raises(ConfigError, match="changes with the step"):
        drsft.objective_loss({"kind": "idft", "warmup_ratio": 0.1})


def test_adapters_of_lora_learn_from_the_loss_of_the_whole_model(bench: Bench, tmp_path: Path) -> None:
    expected, _ = bench.loss_and_gradient(Arm.model_validate({"name": "arm", "objective": "dft"}))
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(load_model(bench.model), lora)
    trainer = drsft.objective_trainer(Trainer, "dft")(model=model, args=step_arguments(tmp_path))
    loss = trainer.compute_loss(model.train(), padded_batch(bench.examples))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert all("lora" in name for name in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())


@pytest.mark.slow
def test_two_processes_make_the_step_of_one(bench: Bench, tmp_path: Path) -> None:
    expected, gradients = bench.loss_and_gradient(Arm.model_validate({"name": "arm", "objective": "dft"}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, ROOT / "tests/api/ddp_step.py", bench.model, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    logged = json.loads((tmp_path / "logged.json").read_text())
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)
    norm = math.sqrt(sum(one.double().square().sum().item() for one in gradients))
    step = 0.1 * min(1.0, 1.0 / norm)  # the trainer's max_grad_norm is 1
    before = [weight.detach() for weight in load_model(bench.model).parameters()]
    after = torch.load(tmp_path / "weights.pt")
    expected_weights = [old - step * gradient for old, gradient in zip(before, gradients, strict=True)]
    largest_step = step * max(one.abs().max().item() for one in gradients)
    for found, wanted in zip(after, expected_weights, strict=True):
        assert (found - wanted).abs().max().item() < 1e-3 * largest_step


@pytest.mark.slow
def test_sft_trainer_has_the_losses_of_drsft_train(bench: Bench, tmp_path: Path) -> None:
    if not PEERS.exists():
        pytest.skip(".venv-peers is missing: make peers")
    save_examples(draw_examples(num=12), tmp_path / "examples.parquet")
    losses = []
    for python, module, layout in (
        (ROOT / ".venv/bin/python", "train_ours", "unpacked"),
        (PEERS, "peer_trl", "padding-free"),
    ):
        work = replace(
            WORK,
            model=bench.model,
            examples=str(tmp_path / "examples.parquet"),
            layout=layout,
            objective="dft",
            loss="drsft",
        ).write(tmp_path / "work.json")
        done = subprocess.run(
            [python, "-m", f"drsft.bench.training.{module}", str(work)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        losses.append(json.loads(done.stdout.splitlines()[-1])["losses"])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
