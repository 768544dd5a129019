"""Scores completions under a causal language model with the plain prompt: log p and entropy of each token.

Axes: B rows of a batch, L tokens of a padded row, T tokens of one completion, N of all completions of a
batch, D hidden size, V vocabulary.

Rows are sorted by length and batched under a token budget, padded on the right: with causal attention no real
token attends to the padding after it, so no mask is needed and the fastest kernels can be used. The head is
applied only to the hidden states that predict completion tokens, in chunks: no tokens x vocabulary tensor
ever exists. Equal rows, such as a kept text and the demonstration that it fell back to, are computed once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from drsft.objectives.head import Head, body_of, head_of
from drsft.objectives.statistics import token_statistics

__all__ = ["CausalLM", "Row", "TokenScores", "score_rows"]

# A GPU needs large batches; a core needs activations that fit its cache (docs/gap-evidence.md).
BATCH_TOKENS = {"cuda": 16_384, "cpu": 2_048}

FloatArray = NDArray[np.float64]
Row = tuple[Sequence[int], Sequence[int]]  # prompt token ids, completion token ids


class CausalLM(Protocol):
    """The interface of a Hugging Face causal language model that scoring uses."""

    config: Any
    base_model: Any

    def get_output_embeddings(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """The scores of one completion; both arrays have T entries, in nats."""

    logprobs_T: FloatArray
    entropy_T: FloatArray

    @property
    def phi_T(self) -> FloatArray:  # noqa: N802 - an axis suffix
        """Centred log-likelihood log p + H: its mean is 0 over the model's own samples at temperature 1."""
        return self.logprobs_T + self.entropy_T


@torch.inference_mode()
def score_rows(
    model: CausalLM,
    rows: Sequence[Row],
    *,
    batch_tokens: int | None = None,
    chunk_tokens: int | None = None,
) -> list[TokenScores]:
    """Returns the scores of `rows`, in order.

    A batch holds at most `batch_tokens` padded tokens, or one longer row.

    If not given, `batch_tokens` and `chunk_tokens` depend on the device; they change speed and memory, not
    the scores. The model is not changed: put it on its device and into eval mode first. Raises ValueError for
    an empty prompt or completion, since the first completion token needs a token before it. Raises ModelError
    if the model's logits cannot be computed from its hidden states and its head; a bias, a scale and a soft
    cap of the logits are supported.
    """
    head = head_of(model)
    batch_tokens = batch_tokens or BATCH_TOKENS["cuda" if head.weight_VD.is_cuda else "cpu"]
    for index, (prompt_ids, completion_ids) in enumerate(rows):
        if not prompt_ids or not completion_ids:
            raise ValueError(f"row {index}: prompt and completion must both have tokens")
    keys = [(tuple(prompt), tuple(completion)) for prompt, completion in rows]
    distinct = list(dict.fromkeys(keys))
    scores: dict[Row, TokenScores] = {}
    for batch in _batches([len(prompt) + len(completion) for prompt, completion in distinct], batch_tokens):
        members = [distinct[index] for index in batch]
        scores.update(zip(members, _score_batch(model, head, members, chunk_tokens), strict=True))
    return [scores[key] for key in keys]


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yields the indices of each batch's rows: longest first, so that the first batch needs most memory."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _score_batch(
    model: CausalLM, head: Head, rows: Sequence[Row], chunk_tokens: int | None
) -> Iterator[TokenScores]:
    device = head.weight_VD.device
    # The last token of a row predicts no scored token, so it is left out.
    fed = [[*prompt, *completion][:-1] for prompt, completion in rows]
    input_ids_BL = torch.zeros(len(rows), max(map(len, fed)), dtype=torch.long)
    is_predicting_BL = torch.zeros_like(input_ids_BL, dtype=torch.bool)
    for row, (ids, (prompt, _)) in enumerate(zip(fed, rows, strict=True)):
        input_ids_BL[row, : len(ids)] = torch.tensor(ids)
        is_predicting_BL[row, len(prompt) - 1 : len(ids)] = True
    output = body_of(model)(input_ids=input_ids_BL.to(device), use_cache=False)
    hidden_ND = output.last_hidden_state[is_predicting_BL.to(device)].to(head.weight_VD.dtype)
    labels_N = torch.tensor([token for _, completion in rows for token in completion], device=device)
    statistics = token_statistics(hidden_ND, head, labels_N, chunk_tokens=chunk_tokens)
    ends = np.cumsum([len(completion) for _, completion in rows])[:-1]
    logprobs = np.split(statistics.logprobs_N.double().cpu().numpy(), ends)
    entropies = np.split(statistics.entropy_N.double().cpu().numpy(), ends)
    for logprobs_T, entropy_T in zip(logprobs, entropies, strict=True):
        yield TokenScores(logprobs_T=logprobs_T, entropy_T=entropy_T)
