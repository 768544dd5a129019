"""Arithmetic of a training step, and the share of the device's peak that it reaches (MFU).

The count is that of the model's mathematics (PaLM, arXiv 2204.02311, appendix B): two operations for each
weight and token forward, twice that backward; recomputed activations are not counted. The head counts for
loss tokens alone, and attention for the tokens that are really seen.
"""

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["peak_flops", "training_flops"]

# Dense bf16, operations a second, from the makers' data sheets; the longest name that fits counts.
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


def peak_flops(device: torch.device) -> float | None:
    """Of one device in bf16; none where it is not known, as on a CPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = [key for key in _PEAKS if key in name]
    return _PEAKS[max(known, key=len)] if known else None


def training_flops(causal_lm: Any, *, lengths: Sequence[int], num_loss_tokens: int) -> float:
    """Of a forward and backward over documents of `lengths` tokens, `num_loss_tokens` of them learnt."""
    head = causal_lm.get_output_embeddings().weight
    embeddings = causal_lm.get_input_embeddings().weight
    num_body = sum(parameter.numel() for parameter in causal_lm.parameters())
    num_body -= embeddings.numel() + (0 if head is embeddings else head.numel())
    config = causal_lm.config.get_text_config()
    # Scores and their sum over the values: 2 · 2 · hidden operations for each pair, half of them masked
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    attention = 4 * config.num_hidden_layers * config.hidden_size * pairs
    return float(3 * (2 * num_body * sum(lengths) + 2 * head.numel() * num_loss_tokens + attention))
