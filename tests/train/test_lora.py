"""Adapters: they alone are trained, without them the model is its start, merged they are the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader
from transformers import AutoModelForCausalLM, GPT2Config

from drsft.config import Lora
from drsft.errors import ModelError
from drsft.storage import LocalStore
from drsft.train.lora import adapters_off, add_adapters, merged_weights
from drsft.train.model import ScoringModel, load_model
from tests.support.train import make_rows, save_tiny_model, scored
from tests.train.test_loop import NUM_EXAMPLES, TRAIN, KilledError, metrics_in, run

LORA = TRAIN.model_copy(update={"lora": Lora(rank=4, alpha=8), "learning_rate": 3e-2})


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def trained(location: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    run(location, folder, train=LORA)
    return folder


def test_training_adapters_lowers_the_loss(trained: Path) -> None:
    metrics = metrics_in(LocalStore(trained))
    assert metrics[-1]["ce"] < metrics[0]["ce"] - 0.1


def test_merged_export_and_adapter_on_the_target_are_one_model(trained: Path, location: str) -> None:
    from peft import PeftModel

    rows = make_rows(NUM_EXAMPLES)
    merged = scored(ScoringModel(load_model(str(trained / "export"))), rows)
    target = AutoModelForCausalLM.from_pretrained(location)
    before = scored(ScoringModel(target), rows)
    adapted = PeftModel.from_pretrained(target, trained / "adapter").base_model.model
    torch.testing.assert_close(scored(ScoringModel(adapted), rows), merged, rtol=0, atol=1e-4)
    assert (merged - before).abs().max() > 0.1


def tiny_gpt2() -> Any:
    """Its layers keep their weights as (inputs, outputs); attn.c_proj is square, mlp.c_proj is not."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=32, n_inner=24)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_merged_weights_are_those_of_pefts_own_merge(family: str, location: str) -> None:
    causal_lm = load_model(location) if family == "qwen2" else tiny_gpt2()
    lora = Lora(rank=3, alpha=5)
    add_adapters(causal_lm, lora, seed=0)
    for name, parameter in causal_lm.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    before = {name: weight.clone() for name, weight in causal_lm.state_dict().items()}
    merged = merged_weights(causal_lm, before, lora)
    adapted = [layer for layer in causal_lm.modules() if hasattr(layer, "base_layer")]
    for layer in adapted:
        layer.merge()
    by_peft = {
        name.replace(".base_layer.", "."): weight
        for name, weight in causal_lm.state_dict().items()
        if "lora_" not in name
    }
    assert len(adapted) == {"qwen2": 14, "gpt2": 8}[family]
    torch.testing.assert_close(merged, by_peft, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (("wte",), r"wte \(Embedding\) is not a linear layer"),
        (("c_attn", "wpe"), r"wpe \(Embedding\) is not a linear layer"),
        (("q_proj",), "not found"),
    ],
)
def test_what_could_not_be_merged_is_refused_in_a_line(modules: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=rf"^train\.lora\.target_modules: .*{message}"):
        add_adapters(tiny_gpt2(), Lora(target_modules=modules), seed=0)


def test_without_its_adapters_the_model_is_its_start(location: str) -> None:
    rows = make_rows(NUM_EXAMPLES)
    before = scored(ScoringModel(load_model(location)), rows)
    causal_lm = load_model(location)
    add_adapters(causal_lm, LORA.lora or Lora(), seed=0)
    model = ScoringModel(causal_lm)
    assert {name.rpartition("lora_")[1] for name, p in model.named_parameters() if p.requires_grad} == {
        "lora_"
    }
    for name, parameter in causal_lm.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    assert (scored(model, rows) - before).abs().max() > 0.1
    with adapters_off(causal_lm):
        torch.testing.assert_close(scored(model, rows), before, rtol=0, atol=1e-6)
    assert (scored(model, rows) - before).abs().max() > 0.1


def test_resuming_adapters_equals_not_stopping(trained: Path, location: str, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(location, tmp_path, train=LORA, die_after=5)
    assert run(location, tmp_path, train=LORA) == metrics_in(LocalStore(trained))


def test_a_checkpoint_of_adapters_leaves_the_frozen_weights_out(trained: Path) -> None:
    names = FileSystemReader(trained / "checkpoints/step-000008").read_metadata().state_dict_metadata
    weights = [name for name in names if name.startswith("model.")]
    assert weights
    assert all("lora_" in name for name in weights)
