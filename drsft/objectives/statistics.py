"""Per-token numbers from hidden states and the LM head, without ever holding tokens × vocabulary.

Axes: T tokens (any packing flattened), D hidden size, V vocabulary.

The head is applied to `chunk_tokens` tokens at a time; backward applies it once more instead of keeping
logits, so the memory beyond the inputs and their gradients is a few chunk × V buffers, whatever T is.
Everything after the matrix product is computed in fp32 (float64 inputs stay float64).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["DEFAULT_CHUNK_TOKENS", "TokenStatistics", "token_statistics"]

DEFAULT_CHUNK_TOKENS = 1024


class TokenStatistics(NamedTuple):
    """What objectives are made from; both in nats, fp32 (float64 when the inputs are).

    A named tuple, not a dataclass: FSDP hooks backward onto the tensors that it finds in a forward's output,
    and it looks into tuples only.
    """

    logprobs_T: Tensor  # log p of the label; differentiable
    entropy_T: Tensor  # of the distribution over the full vocabulary; never carries a gradient

    @property
    def phi_T(self) -> Tensor:  # noqa: N802 - an axis suffix
        """log p + H: above 0 where the label is likelier than a typical sample of the model's own."""
        return self.logprobs_T + self.entropy_T


def token_statistics(
    hidden_TD: Tensor, head_VD: Tensor, labels_T: Tensor, *, chunk_tokens: int = DEFAULT_CHUNK_TOKENS
) -> TokenStatistics:
    """Statistics of `labels_T` under softmax(hidden_TD @ head_VD.T).

    `hidden_TD` is already aligned: row t predicts `labels_T[t]`, and every label is a token of the vocabulary
    (mask before the call). The gradient of log p reaches the hidden states and the head.
    """
    if hidden_TD.ndim != 2 or hidden_TD.shape[:1] != labels_T.shape:
        raise ValueError(f"hidden {tuple(hidden_TD.shape)} and labels {tuple(labels_T.shape)} do not align")
    apply: Callable[..., tuple[Tensor, Tensor]] = _ChunkedHead.apply
    logprobs_T, entropy_T = apply(hidden_TD, head_VD, labels_T, chunk_tokens)
    return TokenStatistics(logprobs_T, entropy_T)


def _chunks(num_tokens: int, chunk_tokens: int) -> Iterator[slice]:
    return (slice(start, start + chunk_tokens) for start in range(0, num_tokens, chunk_tokens))


def _logits(hidden_CD: Tensor, head_VD: Tensor) -> Tensor:
    """Logits in at least fp32. On CUDA a bf16 product is accumulated and returned in fp32, never rounded."""
    if hidden_CD.is_cuda and hidden_CD.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(hidden_CD, head_VD.T, out_dtype=torch.float32)
    product_CV = hidden_CD @ head_VD.T
    return product_CV.to(torch.promote_types(product_CV.dtype, torch.float32))


class _ChunkedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, head_VD: Tensor, labels_T: Tensor, chunk_tokens: int
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(hidden_TD.dtype, torch.float32)
        logprobs_T, entropy_T, normaliser_T = (hidden_TD.new_empty(len(labels_T), dtype=dtype) for _ in "123")
        for chunk in _chunks(len(labels_T), chunk_tokens):
            logits_CV = _logits(hidden_TD[chunk], head_VD)
            normaliser_C = logits_CV.logsumexp(-1)
            logits_CV -= normaliser_C[:, None]  # in place: these are log-probabilities from here on
            logprobs_T[chunk] = logits_CV.gather(-1, labels_T[chunk, None]).squeeze(-1)
            # 0 · log 0 is 0: a finite floor keeps −inf logits from turning the sum into NaN.
            entropy_T[chunk] = -logits_CV.exp().mul_(logits_CV.clamp_(min=torch.finfo(dtype).min)).sum(-1)
            normaliser_T[chunk] = normaliser_C
        ctx.save_for_backward(hidden_TD, head_VD, labels_T, normaliser_T)
        ctx.chunk_tokens = chunk_tokens
        ctx.mark_non_differentiable(entropy_T)
        return logprobs_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_T: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden_TD, head_VD, labels_T, normaliser_T = ctx.saved_tensors
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        grad_hidden_TD = torch.empty_like(hidden_TD) if needs_hidden else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=grad_T.dtype) if needs_head else None
        for chunk in _chunks(len(labels_T), ctx.chunk_tokens):
            grad_CV = _logits(hidden_TD[chunk], head_VD)
            grad_CV -= normaliser_T[chunk, None]
            # d log p / d logits = onehot − softmax
            grad_CV.exp_().mul_(-grad_T[chunk, None])
            grad_CV.scatter_add_(-1, labels_T[chunk, None], grad_T[chunk, None])
            grad_CV = grad_CV.to(head_VD.dtype)
            if grad_hidden_TD is not None:
                grad_hidden_TD[chunk] = grad_CV @ head_VD
            if grad_head_VD is not None:
                grad_head_VD += grad_CV.T @ hidden_TD[chunk]
        return grad_hidden_TD, None if grad_head_VD is None else grad_head_VD.to(head_VD.dtype), None, None
