"""Finds the loss tokens in a trainer's padded or padding-free batch, in the form the objectives take.

Axes: B rows of a batch, L positions of a row, N loss tokens in order, M documents.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["IGNORED", "LabelTokens"]

IGNORED = -100  # the label of a token without a loss, in transformers and TRL


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """The loss tokens of a batch and the positions that predict them: the state at l predicts token l + 1."""

    is_predicting_BL: Tensor  # the last column is false
    labels_N: Tensor
    document_ids_N: Tensor  # 0 … M − 1, ascending

    @classmethod
    def of(cls, labels_BL: Tensor, position_ids_BL: Tensor | None) -> "LabelTokens":
        """Returns the loss tokens of a batch; labels of −100 carry no loss.

        Each row is one document. In a padding-free row, each position id of 0 begins a new document.
        """
        is_label_BL = labels_BL != IGNORED
        is_label_BL[:, 0] = False  # nothing predicts it
        is_predicting_BL = torch.zeros_like(is_label_BL)
        is_predicting_BL[:, :-1] = is_label_BL[:, 1:]
        documents_BL = _documents(labels_BL, position_ids_BL)
        _, document_ids_N = torch.unique_consecutive(documents_BL[is_label_BL], return_inverse=True)
        return cls(is_predicting_BL, labels_BL[is_label_BL], document_ids_N)

    @property
    def is_last_N(self) -> Tensor:  # noqa: N802 - an axis suffix
        """Whether each token is the last loss token of its document, which ends the turn."""
        ids_N = self.document_ids_N
        is_last_N = torch.ones_like(ids_N, dtype=torch.bool)
        is_last_N[:-1] = ids_N[1:] != ids_N[:-1]
        return is_last_N


def _documents(labels_BL: Tensor, position_ids_BL: Any) -> Tensor:
    starts_BL = torch.zeros_like(labels_BL, dtype=torch.bool)
    if position_ids_BL is not None:
        starts_BL |= position_ids_BL == 0
    starts_BL[:, 0] = True
    return starts_BL.flatten().cumsum(0).view_as(labels_BL)
