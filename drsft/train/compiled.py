"""Compiles the blocks of a model with torch.compile, before FSDP shards them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from drsft.errors import ModelError
from drsft.train.attention import NAME, document_attention

__all__ = ["compile_blocks", "compile_seconds"]


def compile_blocks(blocks: Iterable[nn.Module], device: torch.device) -> None:
    """Compiles each block's forward, for any number of tokens; alike blocks share what is compiled.

    The attention between documents is left as it is: its loop over documents, or its kernel, would be
    compiled anew for each micro-batch. Raises ModelError if nothing can be compiled here.
    """
    _try_compiler(device)
    AttentionInterface.register(NAME, torch.compiler.disable(document_attention))  # type: ignore[no-untyped-call]
    for block in blocks:
        # The forward, not the block: FSDP's hooks stay outside, and the weights keep their names.
        block.forward = torch.compile(block.forward, dynamic=True)


def _try_compiler(device: torch.device) -> None:
    try:
        is_compiled = torch.compile(_sine_if_compiled)(torch.ones(2, device=device)) is not None
    except Exception as error:  # no C++ compiler, no Triton, or one that fails: each has its own error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"train.compile: torch.compile does not run here: {reason}") from error

    if not is_compiled:
        raise ModelError(
            "train.compile: torch.compile is switched off in the workers' environment; unset "
            "TORCHDYNAMO_DISABLE and TORCH_COMPILE_DISABLE, or set train.compile: false"
        )


def _sine_if_compiled(values: Tensor) -> Tensor | None:
    return values.sin() if torch.compiler.is_compiling() else None


def compile_seconds() -> float:
    """Returns how long this process has compiled so far."""
    from torch._dynamo.utils import calculate_time_spent

    return calculate_time_spent()["total_wall_time"]
