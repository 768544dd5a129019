"""Computes sums and means over the loss tokens of each document, in whichever rows of a micro-batch they are.

Axes: N loss tokens, M documents; `document_ids_N` counts 0 … M − 1.
"""

import torch
from torch import Tensor

__all__ = ["document_means", "document_totals", "median_document_loss", "spread"]


def document_totals(values_N: Tensor, document_ids_N: Tensor) -> Tensor:
    """Returns the sum of each document's values, (M,): for values 1 2 3 with ids 0 0 1 it is 3 3."""
    num_documents = int(document_ids_N.max()) + 1 if len(document_ids_N) else 0
    return values_N.new_zeros(num_documents).index_add_(0, document_ids_N, values_N)


def document_means(values_N: Tensor, document_ids_N: Tensor) -> Tensor:
    """Returns the mean of each document's values, (M,): for values 1 2 3 with ids 0 0 1 it is 1.5 3."""
    counts_M = document_totals(torch.ones_like(values_N), document_ids_N)
    return document_totals(values_N, document_ids_N) / counts_M


def spread(values_N: Tensor, document_ids_N: Tensor) -> Tensor:
    """Returns each token's document mean, (N,): for values 1 2 3 with ids 0 0 1 it is 1.5 1.5 3."""
    return document_means(values_N, document_ids_N)[document_ids_N]


def median_document_loss(logprobs_N: Tensor, document_ids_N: Tensor) -> float:
    """Returns the median over documents of each document's mean −log p; of two middle values, the lower."""
    return float((-document_means(logprobs_N, document_ids_N)).median())
