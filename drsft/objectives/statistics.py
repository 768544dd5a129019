"""Computes per-token numbers from hidden states and the head, without ever holding all tokens' logits at
once.

Axes: T tokens of documents end to end, N loss tokens, C tokens of a chunk, D hidden size, V vocabulary.

The head is applied to one chunk of tokens after another, so the memory beyond the inputs is a few C × V
buffers, whatever N is. Everything after the matrix product is computed in fp32 (float64 inputs stay float64).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from drsft.objectives import chunk_size
from drsft.objectives.chunk_size import ChunkSize
from drsft.objectives.head import Head
from drsft.objectives.kernels import softmax_statistics, top_entropy

__all__ = [
    "TokenStatistics",
    "check_alignment",
    "logit_chunks",
    "predicted",
    "row_slices",
    "token_statistics",
]

# What follows the product takes a few rows at a time on a CPU: their temporaries stay in its caches, and are
# small enough for the C library to keep from one slice to the next.
CPU_SLICE_BYTES = 2 << 20


class TokenStatistics(NamedTuple):
    """The inputs of all objectives, in nats, fp32 (float64 if the inputs are); nothing carries a gradient.

    A named tuple, not a dataclass: FSDP hooks backward onto the tensors that it finds in a forward's output,
    and it looks into tuples only.
    """

    logprobs_N: Tensor  # log p of the label
    entropy_N: Tensor  # of the distribution over the full vocabulary
    top_entropy_N: Tensor | None = None  # of the k likeliest tokens, renormalised; where an objective asks
    kl_N: Tensor | None = None  # KL(frozen start ‖ policy); where an objective asks
    max_entropy: float | None = None  # ln V
    top_logprobs_N: Tensor | None = None  # log p of the likeliest token

    @property
    def phi_N(self) -> Tensor:  # noqa: N802 - an axis suffix
        """log p + H: above 0 if the label is likelier than a typical sample of the model."""
        return self.logprobs_N + self.entropy_N

    @property
    def is_top_N(self) -> Tensor:  # noqa: N802
        """Whether each label is the likeliest token, (N,). Raises ValueError if `top_logprobs_N` is None."""
        if self.top_logprobs_N is None:
            raise ValueError("is_top_N needs top_logprobs_N, which these statistics lack")
        return self.logprobs_N >= self.top_logprobs_N


@torch.no_grad()
def token_statistics(
    hidden_ND: Tensor,
    head: Head,
    labels_N: Tensor,
    *,
    top_k: int | None = None,
    entropy_epsilon: float = 0.0,
    chunk_tokens: int | None = None,
) -> TokenStatistics:
    """Returns log-probs, entropies and further statistics of `labels_N` under the head's logits.

    There is no gradient. `hidden_ND` is already aligned: row n predicts `labels_N[n]`, and every label is a
    token of the vocabulary (mask before the call). `top_entropy_N` is computed only with `top_k`, and `kl_N`
    never.
    """
    check_alignment(hidden_ND, labels_N)
    dtype = torch.promote_types(hidden_ND.dtype, torch.float32)
    logprobs_N, entropy_N, top_entropy_N, top_logprobs_N = (
        hidden_ND.new_empty(len(labels_N), dtype=dtype) for _ in range(4)
    )
    for logits_CV, start in logit_chunks(hidden_ND, head, chunk_tokens):
        for rows in row_slices(logits_CV):
            place = slice(start + rows.start, start + rows.stop)
            found = softmax_statistics(logits_CV[rows], labels_N[place], entropy_epsilon=entropy_epsilon)
            logprobs_N[place], entropy_N[place] = found.logprobs_C, found.entropy_C
            top_logprobs_N[place] = found.top_logprobs_C
            if top_k is not None:
                top_entropy_N[place] = top_entropy(logits_CV[rows], top_k)
    return TokenStatistics(
        logprobs_N,
        entropy_N,
        top_entropy_N=None if top_k is None else top_entropy_N,
        max_entropy=math.log(head.vocab_size),
        top_logprobs_N=top_logprobs_N,
    )


def predicted(hidden_TD: Tensor, input_ids_T: Tensor, loss_mask_T: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the hidden states (N, D) that predict the N tokens in the mask, and those tokens (N,).

    The state at t predicts token t + 1, so a first token, which nothing predicts, must not be in the mask.
    """
    is_label_T = loss_mask_T[1:]
    return hidden_TD[:-1][is_label_T], input_ids_T[1:][is_label_T]


def check_alignment(hidden_ND: Tensor, labels_N: Tensor) -> None:
    """Raises ValueError unless there is one label for each row of hidden states."""
    if hidden_ND.ndim != 2 or hidden_ND.shape[:1] != labels_N.shape:
        raise ValueError(f"hidden {tuple(hidden_ND.shape)} and labels {tuple(labels_N.shape)} do not align")


def logit_chunks(
    hidden_ND: Tensor, head: Head, chunk_tokens: int | None, *, on_gpu: ChunkSize = chunk_size.GPU
) -> Iterator[tuple[Tensor, int]]:
    """Yields the logits (C, V) of one chunk of tokens after another, with the index of its first token.

    The next chunk may overwrite the logits of the last. Without tokens there is one empty chunk. Without
    `chunk_tokens`, a chunk has the size that is set for the device.
    """
    vocab_size, dtype = head.vocab_size, torch.promote_types(hidden_ND.dtype, torch.float32)
    if chunk_tokens is None:
        size = on_gpu if hidden_ND.is_cuda else chunk_size.CPU
        chunk_tokens = size.tokens(dtype.itemsize * vocab_size)
    out = None
    if not hidden_ND.is_cuda:  # allocating memory for each chunk would cost more than the computation
        out = hidden_ND.new_empty(min(chunk_tokens, len(hidden_ND)), vocab_size, dtype=dtype)
    for start in range(0, max(len(hidden_ND), 1), chunk_tokens):
        yield head.logits(hidden_ND[start : start + chunk_tokens], out=out), start


def row_slices(logits_CV: Tensor) -> Iterator[slice]:
    """Yields slices of a chunk's rows to process together: all rows on a GPU, about 2 MiB of them on a
    CPU.
    """
    num_rows, vocab_size = logits_CV.shape
    size = max(num_rows, 1)
    if not logits_CV.is_cuda:
        size = max(1, CPU_SLICE_BYTES // (logits_CV.itemsize * vocab_size))
    return (slice(start, min(start + size, num_rows)) for start in range(0, max(num_rows, 1), size))
