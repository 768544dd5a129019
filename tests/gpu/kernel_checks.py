"""The kernels of training in bf16 against the plain definition in fp32, with their gradients."""

import math

import torch
from torch import Tensor

from drsft.config import Objective
from drsft.config.objectives import Dft, EaftFull, Sft, SftKl
from drsft.objectives.head import Head
from drsft.objectives.loss import FrozenStart, LossRequest, fused_loss
from drsft.train.attention import AttentionShape, flash_takes
from drsft.train.attention_parity import LIMIT as ATTENTION_LIMIT
from drsft.train.attention_parity import attention_errors
from tests.gpu.scene import Row, Scene, relative_error, within

__all__ = ["attention", "loss"]

LOSS_LIMIT = 3e-2  # logits of 8 and more are rounded to a 32nd, and so are the p that weigh

# heads, heads of keys, their size, window; the flash kernel takes no head of 36
SHAPES = ((8, 2, 128, None), (8, 8, 64, None), (4, 1, 256, 100), (4, 2, 36, None))


def attention(scene: Scene) -> list[Row]:
    """Each document of a row against itself alone in fp32."""
    rows = []
    for heads, groups, size, window in SHAPES:
        shape = AttentionShape(
            num_heads=heads, num_groups=groups, key_size=size, value_size=size, window=window, scaling=None
        )
        one = torch.empty(1, 1, 1, size)
        path = "flash" if scene.device.type == "cuda" and flash_takes(one, one, one) else "sdpa"
        name = f"{path}, {heads} heads, {groups} of keys, of {size}"
        name += f", window {window}" if window else ""
        for what, error in attention_errors(shape, scene.device, torch.bfloat16).items():
            rows.append(within("attention", f"{name}: {what}", error, ATTENTION_LIMIT))
    return rows


def loss(scene: Scene) -> list[Row]:
    """The fused loss of objectives that take different kernels, against autograd through full logits."""
    tokens, vocab, hidden = (300, 2_000, 64) if scene.is_toy else (1_300, 152_064, 3_584)
    torch.manual_seed(0)

    def given(*shape: int, scale: float) -> Tensor:
        return (scale * torch.randn(*shape, device=scene.device)).bfloat16()

    hidden_ND, weight_VD = given(tokens, hidden, scale=1.0), given(vocab, hidden, scale=3 / hidden**0.5)
    start_ND = hidden_ND + given(tokens, hidden, scale=0.1)
    labels_N = torch.randint(vocab, (tokens,), device=scene.device)
    rows = []
    for objective in (Sft(), Dft(), EaftFull(), SftKl()):
        start = FrozenStart(hidden_ND=start_ND, head=Head(weight_VD=weight_VD))
        request = LossRequest(
            num_loss_tokens=tokens, objective=objective, start=start if objective.needs.start_model else None
        )
        ours = [tensor.clone().requires_grad_() for tensor in (hidden_ND, weight_VD)]
        found = fused_loss(ours[0], Head(weight_VD=ours[1]), labels_N, request).loss
        torch.autograd.backward(found)
        exact = [tensor.float().requires_grad_() for tensor in (hidden_ND, weight_VD)]
        start_NV = start_ND.float() @ weight_VD.float().T
        wanted = _full(objective, exact[0] @ exact[1].T, start_NV, labels_N) / tokens
        torch.autograd.backward(wanted)
        pairs = {"loss": (found.detach(), wanted.detach())}
        for what, one, other in zip(("of the states", "of the head"), ours, exact, strict=True):
            assert one.grad is not None
            assert other.grad is not None
            pairs[f"gradient {what}"] = (one.grad, other.grad)
        rows += [
            within("loss", f"{objective.kind}: {what}", relative_error(*pair), LOSS_LIMIT)
            for what, pair in pairs.items()
        ]
    return rows


def _full(objective: Objective, logits_NV: Tensor, start_NV: Tensor, labels_N: Tensor) -> Tensor:
    logp_NV = logits_NV.log_softmax(-1)
    logp_N = logp_NV.gather(-1, labels_N[:, None])[:, 0]
    match objective:
        case Dft():
            weight_N = logp_N.detach().exp()
        case EaftFull():
            entropy_N = -(logp_NV.exp() * logp_NV).sum(-1).detach()
            weight_N = entropy_N / math.log(logits_NV.shape[-1])
        case _:
            weight_N = torch.ones_like(logp_N)
    total = -(weight_N * logp_N).sum()
    if isinstance(objective, SftKl):
        reference_NV = start_NV.log_softmax(-1)
        total = total + objective.kl_weight * (reference_NV.exp() * (reference_NV - logp_NV)).sum()
    return total
