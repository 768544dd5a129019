"""Creates AdamW with linear warm-up and a cosine decay to zero; the learning rate depends on the step
alone.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from drsft.config import Train

__all__ = ["clip_gradients", "learning_rate", "make_optimiser", "set_learning_rate", "squared_gradient_norm"]


def make_optimiser(model: nn.Module, train: Train) -> torch.optim.AdamW:
    """Returns AdamW with weight decay for matrices only, since decay of norms and biases regularises
    nothing.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=train.adam_betas, fused=True)


def learning_rate(step: int, *, num_steps: int, peak: float, warmup_ratio: float) -> float:
    """Returns the learning rate of step 0 … num_steps − 1.

    It rises to `peak` at the last warm-up step, then follows a half cosine that would be 0 at `num_steps`.
    """
    num_warmup = math.ceil(num_steps * warmup_ratio)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(num_steps - num_warmup, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def squared_gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Returns the squared norm of this process's gradient shards, float64, (1,).

    Summed over the processes that share a copy of the state it is the squared norm of the whole gradient.
    """
    norms = torch._foreach_norm(_local_gradients(parameters))
    return torch.stack(norms).double().square().sum().reshape(1)


def clip_gradients(parameters: Iterable[nn.Parameter], *, norm: float, max_norm: float) -> None:
    """Scales the gradient down to the norm `max_norm` if its norm over all processes, `norm`, is larger."""
    if norm > max_norm:
        torch._foreach_mul_(_local_gradients(parameters), max_norm / norm)


def _local_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
