"""Adds low-rank adapters (LoRA, arXiv 2106.09685) to the linear layers.

A layer computes W x + α/r · B A x, and only A and B are trained. Since B starts at zero, the model without
its adapters is the model that training began with.

Axes: O outputs of a layer, I inputs, r rank. A is (r, I), B is (O, r); W is (O, I) in torch's Linear and (I,
O) in transformers' Conv1D, GPT-2's layer.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from drsft.config import Lora
from drsft.errors import ModelError

__all__ = ["adapter_weights", "adapters_off", "add_adapters", "has_adapters", "merged_weights"]

_NAME = "default"  # peft's name of the only adapter
_BASE, _A, _B = ".base_layer.", f".lora_A.{_NAME}.", f".lora_B.{_NAME}."


def add_adapters(causal_lm: Any, lora: Lora, *, seed: int) -> None:
    """Adds adapters to linear layers and freezes all other weights. `seed` draws the matrices A.

    The layers are those that `lora.target_modules` names; by default all except the head. Raises ModelError
    if `lora.target_modules` names nothing in the model, or a layer that is not linear, whose adapter could
    not be merged.
    """
    from peft import inject_adapter_in_model

    torch.manual_seed(seed)
    try:
        inject_adapter_in_model(_peft_config(lora), causal_lm)
    except ValueError as error:  # peft finds no such layer, or supports no adapter for it
        reason = (str(error).strip().splitlines() or ["peft refuses it"])[0][:200]
        raise ModelError(f"train.lora.target_modules: {reason}") from error
    for name, layer in _adapted(causal_lm):
        if not isinstance(layer.base_layer, nn.Linear | Conv1D):
            kind = type(layer.base_layer).__name__
            raise ModelError(
                f"train.lora.target_modules: {name} ({kind}) is not a linear layer, so it can have no adapter"
            )
    for name, parameter in causal_lm.named_parameters():
        parameter.requires_grad_("lora_" in name)


def has_adapters(causal_lm: nn.Module) -> bool:
    return any(_A in f"{name}." for name, _ in causal_lm.named_modules())


@contextmanager
def adapters_off(causal_lm: nn.Module) -> Iterator[None]:
    """Switches the adapters off within the block, so that the model is the one that training began with."""
    _switch_adapters(causal_lm, are_off=True)
    try:
        yield
    finally:
        _switch_adapters(causal_lm, are_off=False)


def _switch_adapters(causal_lm: nn.Module, *, are_off: bool) -> None:
    # Not by peft's enable_adapters, which also freezes and thaws them: under FSDP it would freeze the shards
    # and thaw the copies that a forward has gathered in their place.
    for _, layer in _adapted(causal_lm):
        layer._disable_adapters = are_off


def merged_weights(causal_lm: nn.Module, weights: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """Returns the weights with adapters merged, W + α/r · B A, by the names of the model without adapters.

    `weights` are those of `causal_lm` by name, with the adapters' A and B.
    """
    merged = {name.replace(_BASE, "."): weight for name, weight in weights.items() if "lora_" not in name}
    for name, layer in _adapted(causal_lm):
        weight_A, weight_B = (weights[f"{name}{part}weight"].float() for part in (_A, _B))
        delta_OI = weight_B @ weight_A * (lora.alpha / lora.rank)
        delta = delta_OI.T if isinstance(layer.base_layer, Conv1D) else delta_OI
        weight = merged[f"{name}.weight"]
        merged[f"{name}.weight"] = weight + delta.to(weight.dtype)
    return merged


def _adapted(causal_lm: nn.Module) -> list[tuple[str, Any]]:
    """Returns the layers that have an adapter, by their names."""
    return [(name, module) for name, module in causal_lm.named_modules() if hasattr(module, "base_layer")]


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns A and B by the names that peft uses in adapter_model.safetensors."""
    return {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": weight.contiguous()
        for name, weight in weights.items()
        if "lora_" in name
    }


def adapter_config(lora: Lora, target: str) -> Any:
    """Returns peft's description of the adapter, to be saved beside its weights."""
    config = _peft_config(lora)
    config.base_model_name_or_path = target
    config.inference_mode = True
    return config


def _peft_config(lora: Lora) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules if lora.target_modules else "all-linear",
        task_type="CAUSAL_LM",
    )
