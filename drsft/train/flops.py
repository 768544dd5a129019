"""Counts the arithmetic of a training step, and the share of the device's peak that it reaches (MFU).

It counts the model's mathematics (PaLM, arXiv 2204.02311, appendix B): for each weight and token, two
operations in the forward, two in the backward for the input's gradient, and two for the weight's own gradient
unless the weight is frozen; recomputed activations are not counted. The head counts for loss tokens alone,
attention for the tokens actually attended to, and a mixture's experts for the tokens that are routed to them.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["peak_flops", "training_flops"]

# Dense bf16, operations a second, from the makers' data sheets; the longest name that fits counts.
_PEAKS = {
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "GB200": 2500e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


def peak_flops(device: torch.device) -> float | None:
    """Returns the device's peak in bf16, operations per second; None if it is unknown, as for a CPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = [key for key in _PEAKS if re.search(rf"\b{key}\b", name)]  # an L40 is not an L4
    return _PEAKS[max(known, key=len)] if known else None


def training_flops(causal_lm: Any, *, lengths: Sequence[int], num_loss_tokens: int) -> float:
    """Returns the floating-point operations of a forward and backward over documents of `lengths` tokens.

    `num_loss_tokens` of these tokens carry a loss.
    """
    head = causal_lm.get_output_embeddings().weight
    embeddings = causal_lm.get_input_embeddings().weight
    config = causal_lm.config.get_text_config()
    num_experts, chosen_share = _experts(config)
    for_token = 0.0
    for name, weight in causal_lm.named_parameters():
        if weight is not head and weight is not embeddings:
            share = chosen_share if _is_of_experts(name, weight, num_experts) else 1.0
            for_token += share * _operations(weight)
    # Scores and their sum over the values: 2 · 2 · hidden operations for each pair, half of them masked
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    attention = 3 * 4 * config.num_hidden_layers * config.hidden_size * pairs
    return float(for_token * sum(lengths) + _operations(head) * num_loss_tokens + attention)


def _operations(weight: nn.Parameter) -> int:
    """Returns the operations of a weight for one token, forward and backward."""
    return (6 if weight.requires_grad else 4) * weight.numel()


def _experts(config: Any) -> tuple[int, float]:
    """Returns how many experts a layer has, and the share of them that a token is routed to.

    Returns 0 and 1 for a layer without experts.
    """

    def first_of(*names: str) -> int | None:
        return next((value for name in names if (value := getattr(config, name, None))), None)

    total = first_of("num_experts", "num_local_experts", "n_routed_experts")
    chosen = first_of("num_experts_per_tok", "top_k_experts")
    return (total, chosen / total) if total and chosen else (0, 1.0)


def _is_of_experts(name: str, weight: nn.Parameter, num_experts: int) -> bool:
    """Returns whether a weight belongs to an expert: experts are modules of a list, or one weight of three
    axes.
    """
    return "experts" in name.split(".") or (weight.ndim == 3 and len(weight) == num_experts)
