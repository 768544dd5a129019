"""The arithmetic of a step, against a sum over its matrix products."""

import torch
from train_support import VOCAB, save_tiny_model

from drsft.train.flops import peak_flops, training_flops
from drsft.train.model import load_model


def test_flops_are_those_of_the_matrix_products(tmp_path) -> None:  # type: ignore[no-untyped-def]
    causal_lm = load_model(save_tiny_model(tmp_path))
    lengths, num_loss_tokens = (5, 3), 4
    num_tokens, pairs = 8, 15 + 6
    linear = [
        m.weight.numel() for name, m in causal_lm.model.named_modules() if isinstance(m, torch.nn.Linear)
    ]
    forward = 2 * sum(linear) * num_tokens + 2 * VOCAB * 32 * num_loss_tokens + 2 * 4 * 32 * pairs
    found = training_flops(causal_lm, lengths=lengths, num_loss_tokens=num_loss_tokens)
    assert 3 * forward <= found < 1.05 * 3 * forward  # biases and norms are counted as weights


def test_the_peak_of_an_unknown_device_is_not_made_up() -> None:
    assert peak_flops(torch.device("cpu")) is None
