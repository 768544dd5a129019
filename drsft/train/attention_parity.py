"""Checks the attention of a training on its device, in its precision, forward and backward, before step 1.

The trial of a whole model (drsft/train/attention.py) runs in fp32 on the CPU, so it never calls the flash
kernel that training uses on CUDA in half precision.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from drsft.errors import ModelError
from drsft.train.attention import AttentionShape, DocumentSpans, document_attention

__all__ = ["attention_errors", "check_attention"]

LENGTHS = (5, 300, 64, 1, 130)  # of documents: shorter and longer than a kernel's tiles
LONGEST_WINDOW = 100  # shorter than the longest document, so that it matters
LIMIT = 2e-2  # relative; bf16 alone is 5e-3
Attend = Callable[..., tuple[Tensor, None]]


def check_attention(
    shapes: Iterable[AttentionShape], device: torch.device, dtype: torch.dtype, *, model: str
) -> None:
    """Raises ModelError if the attention does not run on this device, or is off by more than rounding.

    It is compared with attention in fp32, computed document by document.
    """
    for shape in shapes:
        _check(shape, device, dtype, model)


@lru_cache  # arms and seeds train the same model
def _check(shape: AttentionShape, device: torch.device, dtype: torch.dtype, model: str) -> None:
    try:
        errors = attention_errors(shape, device, dtype)
    except RuntimeError as error:  # the device may not support the kernel
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"target.model {model!r}: its attention does not run on {device} in {dtype}: {reason}; "
            "set target.dtype: float32"
        ) from error
    largest = max(errors, key=lambda name: errors[name])
    if not errors[largest] <= LIMIT:
        raise ModelError(
            f"target.model {model!r}: the attention on {device} in {dtype} is off by {errors[largest]:.1e} "
            f"in {largest} ({shape}), relative to fp32; at most {LIMIT:g} is rounding; "
            "set target.dtype: float32"
        )


def attention_errors(
    shape: AttentionShape, device: torch.device, dtype: torch.dtype, *, attend: Attend = document_attention
) -> Mapping[str, float]:
    """Returns the relative errors of the result and of the three gradients, by name.

    `attend` in `dtype` is compared with torch's attention of each document by itself in fp32.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = {
        "query": (shape.num_heads, shape.key_size),
        "key": (shape.num_groups, shape.key_size),
        "value": (shape.num_groups, shape.value_size),
    }
    given = [
        torch.randn(1, heads, sum(LENGTHS), size, generator=generator).to(device, dtype)
        for heads, size in sizes.values()
    ]
    window = None if shape.window is None else min(shape.window, LONGEST_WINDOW)

    def of(inputs: list[Tensor], lengths: tuple[int, ...], function: Attend) -> list[Tensor]:
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        spans = DocumentSpans.of(lengths, device)
        attended, _ = function(
            nn.Module(), *leaves, None, document_spans=spans, scaling=shape.scaling, sliding_window=window
        )
        torch.autograd.backward(attended.float().square().sum())
        return [attended.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    found = of(given, LENGTHS, attend)
    alone = [
        of([part.float() for part in parts], (parts[0].shape[2],), document_attention)
        for parts in zip(*(torch.split(tensor, list(LENGTHS), dim=2) for tensor in given), strict=True)
    ]
    attended, *gradients = (list(parts) for parts in zip(*alone, strict=True))
    wanted = [torch.cat(attended, dim=1), *(torch.cat(parts, dim=2) for parts in gradients)]
    names = ("the result", *(f"the gradient of the {name}" for name in sizes))
    return {
        name: ((ours.float() - theirs).norm() / theirs.norm()).item()
        for name, ours, theirs in zip(names, found, wanted, strict=True)
    }
