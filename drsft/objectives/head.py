"""Computes a model's logits from its last hidden states outside the model, a few tokens at a time.

Axes: C tokens of a chunk, V vocabulary, D hidden size.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from drsft.errors import ModelError

__all__ = ["Head", "HeadShape", "body_of", "head_of", "head_shape", "plain_head"]

# Settings of transformers' models by which logits are multiplied, or in other models divided.
SCALE_SETTINGS = (
    *("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier"),
    "logits_mup_width_multiplier",
)
SOFTCAP_SETTINGS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
NUM_PROBE_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """How a head turns u = hidden states × weight + bias into logits: softcap · tanh(scale · u / softcap)."""

    scale: float = 1.0
    softcap: float | None = None  # None: scale · u


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    weight_VD: Tensor
    bias_V: Tensor | None = None
    shape: HeadShape = HeadShape()

    @property
    def vocab_size(self) -> int:
        return len(self.weight_VD)

    def logits(self, hidden_CD: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Returns the logits (C, V) of a chunk of hidden states in at least fp32.

        `out` is a buffer that they may be written to; they are then its first rows. On CUDA a half-precision
        product is accumulated and returned in fp32.
        """
        if hidden_CD.is_cuda and hidden_CD.dtype in (torch.bfloat16, torch.float16):
            logits_CV = torch.mm(hidden_CD, self.weight_VD.T, out_dtype=torch.float32)
        elif out is not None and out.dtype == hidden_CD.dtype:
            logits_CV = torch.mm(hidden_CD, self.weight_VD.T, out=out[: len(hidden_CD)])
        else:
            logits_CV = hidden_CD @ self.weight_VD.T
            logits_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
        if self.bias_V is not None:
            # Finite, since −∞ in a masked entry would make p log p NaN (0 · ∞).
            logits_CV += self.bias_V.clamp(min=torch.finfo(self.bias_V.dtype).min / 4)
        if self.shape.scale != 1:
            logits_CV *= self.shape.scale
        if self.shape.softcap is not None:
            logits_CV.div_(self.shape.softcap).tanh_().mul_(self.shape.softcap)
        return logits_CV


def body_of(causal_lm: Any) -> Any:
    """Returns the model without its head. Raises ModelError if they cannot be separated."""
    body = causal_lm.base_model
    if body is causal_lm:  # its prefix names a part of a larger model, as Llama 4's does
        body = getattr(causal_lm, "model", None)
    if body is None:
        raise ModelError(
            f"{type(causal_lm).__name__} is not supported: its head cannot be separated from its body"
        )
    return body


def head_of(causal_lm: Any, shape: HeadShape | None = None) -> Head:
    """Returns the weight, bias and shape of the head of a Hugging Face causal language model.

    If `shape` is None, `head_shape` finds it by a trial.
    """
    shape = shape or head_shape(causal_lm)
    module = causal_lm.get_output_embeddings()
    return Head(weight_VD=module.weight, bias_V=getattr(module, "bias", None), shape=shape)


def plain_head(causal_lm: Any) -> Any:
    """Returns the module of the model's head, which is its output embeddings.

    Raises ModelError if the model has no head, or if the head has a LoRA adapter.
    """
    module = causal_lm.get_output_embeddings()
    if module is None or hasattr(module, "base_layer"):
        reason = "it has no head" if module is None else "its head has an adapter"
        raise ModelError(f"{type(causal_lm).__name__} is not supported: {reason}")
    return module


@torch.no_grad()
def head_shape(causal_lm: Any) -> HeadShape:
    """Returns the scale and soft cap with which the model computes logits, found by a trial on four tokens.

    The same setting multiplies in one model and divides in another, and a model may do something that no
    setting describes. So the shape is the one that reproduces the model's own logits. Raises ModelError if
    none does.
    """
    module = plain_head(causal_lm)
    was_training = causal_lm.training
    causal_lm.eval()
    hidden_TD, expected_TV = _tried(causal_lm, module.weight)
    causal_lm.train(was_training)
    tolerance = 1e-3 if hidden_TD.dtype in (torch.float32, torch.float64) else 3e-2
    # Nothing between them makes the states wider, and nothing behind them cuts off logits.
    is_direct = module.weight.shape == (expected_TV.shape[-1], hidden_TD.shape[-1])
    for shape in _candidates(causal_lm.config.get_text_config()) if is_direct else ():
        error_TV = head_of(causal_lm, shape).logits(hidden_TD).float() - expected_TV
        # Logits that are NaN show nothing about the head; the loss will report them.
        if error_TV.nan_to_num(0).abs().max() <= tolerance * expected_TV.nan_to_num(0).abs().max():
            return shape
    raise ModelError(
        f"{type(causal_lm).__name__} is not supported: its logits are not its last hidden states times its "
        "head, scaled or soft-capped as its configuration says"
    )


def _tried(causal_lm: Any, weight_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Returns last hidden states and logits of four tokens."""
    body = body_of(causal_lm)
    ids_1T = torch.arange(NUM_PROBE_TOKENS, device=weight_VD.device)[None] % len(weight_VD)
    try:
        hidden_TD = body(input_ids=ids_1T, use_cache=False).last_hidden_state[0]
        logits_TV = causal_lm(input_ids=ids_1T, use_cache=False).logits[0]
    except (RuntimeError, ValueError, TypeError) as error:  # such as heads that do not divide a size
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{type(causal_lm).__name__} cannot be run on {NUM_PROBE_TOKENS} tokens: {reason}; "
            "check the sizes and numbers of heads in its config.json"
        ) from error
    return hidden_TD.to(weight_VD.dtype), logits_TV.float()  # Mamba's stay in fp32 whatever its head is in


def _candidates(config: Any) -> list[HeadShape]:
    values = [float(getattr(config, name, None) or 1) for name in SCALE_SETTINGS]
    scales = dict.fromkeys([1.0, *values, *(1 / value for value in values)])
    caps = [float(getattr(config, name, None) or 0) or None for name in SOFTCAP_SETTINGS]
    softcaps = dict.fromkeys([*caps, None])
    return [HeadShape(scale=scale, softcap=cap) for scale, cap in product(scales, softcaps)]
