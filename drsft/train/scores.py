"""Scores the loss tokens of some rows under a model.

Axes: R scored rows, T their concatenated tokens (also those without a loss, which are never read), N loss
tokens. The cost of one step depends on its own rows, not on how many there are in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drsft.config.objectives import Sft
from drsft.objectives.loss import LossRequest
from drsft.train.micro_batch import micro_batch, split_rows
from drsft.train.model import ScoringModel, reshard
from drsft.train.pack import PackedRows
from drsft.train.world import World

__all__ = ["Places", "Scores", "score"]

Rows = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The position of each row's tokens when the scored rows are concatenated (T tokens)."""

    rows_R: NDArray[np.int64]  # ascending, each once
    edges: NDArray[np.int64]  # (R + 1,): where each row's tokens begin, and T

    @classmethod
    def of(cls, rows: PackedRows, row_indices: Rows) -> "Places":
        rows_R = np.unique(np.asarray(row_indices, dtype=np.int64))
        return cls(rows_R=rows_R, edges=np.concatenate([[0], np.cumsum(rows.row_lengths(rows_R))]))

    @property
    def num_tokens(self) -> int:
        return int(self.edges[-1])

    def loss_tokens(self, rows: PackedRows, row_indices: Rows) -> Tensor:
        """Returns the indices of the loss tokens of some of these rows among the T tokens, row after row."""
        found = [np.zeros(0, dtype=np.int64)]
        for row in row_indices:
            start, end = rows.span(int(row))
            first = self.edges[np.searchsorted(self.rows_R, row)]
            found.append(first + np.flatnonzero(rows.loss_mask_T[start:end]))
        return torch.from_numpy(np.concatenate(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Log-probs of the tokens of some rows under one model, fp32; 0 where nothing was scored."""

    places: Places
    logprobs_T: Tensor
    is_top_T: Tensor | None = None  # 1 where greedy decoding would have chosen the token; not kept in files

    def of(self, rows: PackedRows, row_indices: Rows) -> Tensor:
        """Returns the log-probs of the loss tokens of some of the scored rows, row after row, in order."""
        return self.logprobs_T[self.places.loss_tokens(rows, row_indices)]


@torch.no_grad()
def score(
    model: ScoringModel, rows: PackedRows, row_indices: Rows, *, micro_batch_rows: int, world: World
) -> Scores:
    """Returns the log-probs of the loss tokens of some rows under the current model.

    All processes must call it and share the work.
    """
    places = Places.of(rows, row_indices)
    scores_2T = torch.zeros(2, places.num_tokens, dtype=torch.float32, device=world.device)
    request = LossRequest(num_loss_tokens=1, objective=Sft())
    batches = split_rows(
        rows,
        places.rows_R,
        micro_batch_rows=micro_batch_rows,
        by_tokens=model.attends_by_document,
        world=world,
    )
    for batch in batches:
        scored = model(*micro_batch(rows, batch, world.device).inputs, request)
        at = places.loss_tokens(rows, batch).to(world.device)
        scores_2T[0, at] = scored.statistics.logprobs_N.float()
        scores_2T[1, at] = scored.statistics.is_top_N.float()
    reshard(model)
    logprobs_T, is_top_T = world.global_sum(scores_2T)
    return Scores(places=places, logprobs_T=logprobs_T, is_top_T=is_top_T)
