"""Computes means over completions, wherever their tokens are in a packed micro-batch.

Axes: N loss tokens, M documents; `document_ids_N` counts 0 … M − 1.
"""

import torch
from torch import Tensor

__all__ = ["document_means", "document_totals", "median_document_loss", "spread"]


def document_totals(values_N: Tensor, document_ids_N: Tensor) -> Tensor:
    """Returns the sum of each document, (M,).  values 1 2 3, ids 0 0 1 -> 3 3"""
    num_documents = int(document_ids_N.max()) + 1 if len(document_ids_N) else 0
    return values_N.new_zeros(num_documents).index_add_(0, document_ids_N, values_N)


def document_means(values_N: Tensor, document_ids_N: Tensor) -> Tensor:
    """Returns the mean of each document, (M,).  values 1 2 3, ids 0 0 1 -> 1.5 3"""
    counts_M = document_totals(torch.ones_like(values_N), document_ids_N)
    return document_totals(values_N, document_ids_N) / counts_M


def spread(values_N: Tensor, document_ids_N: Tensor) -> Tensor:
    """Returns for each token the mean of its document, (N,).  values 1 2 3, ids 0 0 1 -> 1.5 1.5 3"""
    return document_means(values_N, document_ids_N)[document_ids_N]


def median_document_loss(logprobs_N: Tensor, document_ids_N: Tensor) -> float:
    """Returns the median over documents of their mean −log p; the lower of two middle ones."""
    return float((-document_means(logprobs_N, document_ids_N)).median())
