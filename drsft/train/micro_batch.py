"""Prepares the rows of one forward pass: what the model reads, and what the objective needs for each loss
token.

Axes: T tokens of the documents end to end, N loss tokens, M documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drsft.train.order import micro_batches
from drsft.train.pack import PackedRows
from drsft.train.world import World, copy_to

__all__ = ["MicroBatch", "micro_batch", "occurrences", "split_rows"]

Inputs = tuple[Tensor, Tensor, Tensor, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The tensors of one forward pass, on the device. Loss tokens are in order, document after document."""

    inputs: Inputs  # input ids (T,), positions (T,), loss mask (T,), lengths of the documents
    document_ids_N: Tensor  # 0 … M − 1
    is_last_N: Tensor  # the last loss token of its document, which ends the turn
    is_exempt_N: Tensor  # part of a text that keeps weight 1
    is_thought_N: Tensor  # part of a thought


def split_rows(
    rows: PackedRows,
    row_indices: Sequence[int] | NDArray[np.int64],
    *,
    micro_batch_rows: int,
    by_tokens: bool,
    world: World,
) -> list[list[int]]:
    """Returns the rows of each of this process's forward passes; a pass may have no rows.

    A pass has at most as many tokens as `micro_batch_rows` full rows. Without `by_tokens` short rows count as
    full ones, for models that pad every text to the longest.
    """
    lengths = rows.row_lengths(row_indices)
    return micro_batches(
        row_indices,
        lengths if by_tokens else np.full_like(lengths, rows.seq_len),
        rank=world.rank,
        num_ranks=world.size,
        most_tokens=micro_batch_rows * rows.seq_len,
    )


def micro_batch(
    rows: PackedRows,
    batch: Sequence[int],
    device: torch.device,
    *,
    exempt_patterns: Sequence[Sequence[int]] = (),
) -> MicroBatch:
    """Returns the rows of `batch` as tensors.

    An empty batch becomes a row without loss tokens, so that this process takes part in collectives.
    """
    documents = rows.documents(batch or [0])
    mask_T = documents.loss_mask_T & bool(batch)
    ids_T = documents.input_ids_T.astype("int64")
    document_ids_N = np.repeat(np.arange(len(documents.lengths)), documents.lengths)[mask_T]
    is_last_N = np.append(document_ids_N[1:] != document_ids_N[:-1], True)[: len(document_ids_N)]
    is_exempt_N = occurrences(ids_T, exempt_patterns)[mask_T]

    def on_device(array: NDArray[np.generic]) -> Tensor:
        return copy_to(device, torch.from_numpy(array))

    return MicroBatch(
        inputs=(on_device(ids_T), on_device(documents.position_ids_T), on_device(mask_T), documents.lengths),
        document_ids_N=on_device(document_ids_N),
        is_last_N=on_device(is_last_N),
        is_exempt_N=on_device(is_exempt_N),
        is_thought_N=on_device(documents.thought_mask_T[mask_T]),
    )


def occurrences(ids_T: NDArray[np.int64], patterns: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Returns which tokens belong to an occurrence of a pattern.  ids 1 2 3 1 2, pattern 1 2 -> 1 1 0 1 1"""
    is_part_T = np.zeros(len(ids_T), dtype=np.bool_)
    for pattern in patterns:
        if len(pattern) <= len(ids_T):
            windows = np.lib.stride_tricks.sliding_window_view(ids_T, len(pattern))
            for start in np.flatnonzero((windows == pattern).all(-1)):
                is_part_T[start : start + len(pattern)] = True
    return is_part_T
