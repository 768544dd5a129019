"""Low-rank adapters (LoRA, arXiv 2106.09685) on the linear layers: a layer computes W x + α/r · B A x, and
only A and B are trained. Since B starts at zero, the model without its adapters is the model that training
began with.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drsft.config import Lora

__all__ = ["adapter_weights", "adapters_off", "add_adapters", "has_adapters", "merged_weights"]

_NAME = "default"  # peft's name of the only adapter
_BASE, _A, _B = ".base_layer.", f".lora_A.{_NAME}.", f".lora_B.{_NAME}."


def add_adapters(causal_lm: Any, lora: Lora, *, seed: int) -> None:
    """Puts adapters on every linear layer but the head and freezes all else. `seed` draws the matrices A."""
    from peft import inject_adapter_in_model

    torch.manual_seed(seed)
    inject_adapter_in_model(_peft_config(lora), causal_lm)
    for name, parameter in causal_lm.named_parameters():
        parameter.requires_grad_("lora_" in name)


def has_adapters(causal_lm: nn.Module) -> bool:
    return any(_A in f"{name}." for name, _ in causal_lm.named_modules())


@contextmanager
def adapters_off(causal_lm: nn.Module) -> Iterator[None]:
    """Inside, the model is the one that training began with."""
    layers: list[Any] = [module for module in causal_lm.modules() if hasattr(module, "base_layer")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged_weights(weights: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """The plain model's weights, W + α/r · B A, from those of the model with adapters."""
    merged = {}
    for name, weight in weights.items():
        if "lora_" in name:
            continue
        plain = name.replace(_BASE, ".")
        if (name_a := name.replace(_BASE, _A)) != name and name_a in weights:
            delta = weights[name.replace(_BASE, _B)].float() @ weights[name_a].float()
            weight = weight + (delta * (lora.alpha / lora.rank)).to(weight.dtype)
        merged[plain] = weight
    return merged


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A and B by the names under which peft keeps them in adapter_model.safetensors."""
    return {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": weight.contiguous()
        for name, weight in weights.items()
        if "lora_" in name
    }


def adapter_config(lora: Lora, target: str) -> Any:
    """peft's own description of the adapter, to be saved beside its weights."""
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
