"""The arithmetic of a step, against a sum over its matrix products."""

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from drsft.config import Lora
from drsft.train.flops import peak_flops, training_flops
from drsft.train.lora import add_adapters
from drsft.train.model import load_model
from tests.support.train import VOCAB, save_tiny_model

LENGTHS, NUM_LOSS_TOKENS = (5, 3), 4
NUM_TOKENS, PAIRS = 8, 15 + 6


def backbone_products(causal_lm: torch.nn.Module) -> list[torch.Tensor]:
    """The weights of the linear layers under the head."""
    modules = causal_lm.model.named_modules()  # type: ignore[union-attr,operator]
    return [module.weight for _, module in modules if isinstance(module, torch.nn.Linear)]


def test_flops_are_those_of_the_matrix_products(tmp_path) -> None:  # type: ignore[no-untyped-def]
    causal_lm = load_model(save_tiny_model(tmp_path))
    linear = sum(weight.numel() for weight in backbone_products(causal_lm))
    forward = 2 * linear * NUM_TOKENS + 2 * VOCAB * 32 * NUM_LOSS_TOKENS + 2 * 4 * 32 * PAIRS
    found = training_flops(causal_lm, lengths=LENGTHS, num_loss_tokens=NUM_LOSS_TOKENS)
    assert 3 * forward <= found < 1.05 * 3 * forward  # biases and norms are counted as weights


def test_frozen_weights_have_no_gradient_of_their_own(tmp_path) -> None:  # type: ignore[no-untyped-def]
    causal_lm = load_model(save_tiny_model(tmp_path))
    add_adapters(causal_lm, Lora(rank=4), seed=0)
    products = backbone_products(causal_lm)
    frozen, trained = (
        sum(weight.numel() for weight in products if weight.requires_grad is is_trained)
        for is_trained in (False, True)
    )
    assert trained > 0
    expected = (4 * frozen + 6 * trained) * NUM_TOKENS + 4 * VOCAB * 32 * NUM_LOSS_TOKENS
    expected += 3 * 2 * 4 * 32 * PAIRS
    found = training_flops(causal_lm, lengths=LENGTHS, num_loss_tokens=NUM_LOSS_TOKENS)
    assert expected <= found < 1.05 * expected


def test_of_a_mixture_the_experts_of_a_token_count() -> None:
    hidden, inner, layers = 32, 48, 2
    config = MixtralConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_local_experts=8,
        num_experts_per_tok=2,
    )
    causal_lm = AutoModelForCausalLM.from_config(config)
    of_layer = 4 * hidden * hidden + 8 * hidden + 2 * 3 * hidden * inner  # attention, router, two experts
    forward = 2 * layers * of_layer * NUM_TOKENS + 2 * VOCAB * hidden * NUM_LOSS_TOKENS
    forward += layers * 4 * hidden * PAIRS
    found = training_flops(causal_lm, lengths=LENGTHS, num_loss_tokens=NUM_LOSS_TOKENS)
    assert 3 * forward <= found < 1.05 * 3 * forward


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
    ],
)
def test_the_peak_is_that_of_the_whole_name(
    name: str, like: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda")) == like


def test_the_peak_of_an_unknown_device_is_not_made_up() -> None:
    assert peak_flops(torch.device("cpu")) is None
