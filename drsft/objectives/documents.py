"""Means over completions, wherever their tokens lie in a packed micro-batch.

Axes: T loss tokens, M documents; `document_ids_T` counts 0 … M − 1.
"""

import torch
from torch import Tensor

__all__ = ["document_means", "document_totals", "median_document_loss", "spread"]


def document_totals(values_T: Tensor, document_ids_T: Tensor) -> Tensor:
    """(M,).  values 1 2 3, ids 0 0 1 -> 3 3"""
    num_documents = int(document_ids_T.max()) + 1 if len(document_ids_T) else 0
    return values_T.new_zeros(num_documents).index_add_(0, document_ids_T, values_T)


def document_means(values_T: Tensor, document_ids_T: Tensor) -> Tensor:
    """(M,).  values 1 2 3, ids 0 0 1 -> 1.5 3"""
    counts_M = document_totals(torch.ones_like(values_T), document_ids_T)
    return document_totals(values_T, document_ids_T) / counts_M


def spread(values_T: Tensor, document_ids_T: Tensor) -> Tensor:
    """Each token's document's mean, (T,).  values 1 2 3, ids 0 0 1 -> 1.5 1.5 3"""
    return document_means(values_T, document_ids_T)[document_ids_T]


def median_document_loss(logprobs_T: Tensor, document_ids_T: Tensor) -> float:
    """Median over documents of their mean −log p; the lower one of the two in the middle."""
    return float((-document_means(logprobs_T, document_ids_T)).median())
