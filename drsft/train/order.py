"""Computes the rows of each step, and which worker gets them, as pure functions of seed, step and world.

Nothing here has state, so the step's number gives the whole position in the data: a resumed run sees no row
twice and misses none, even with another number of workers.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drsft.records import stable_seed

__all__ = ["RowOrder", "micro_batches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOrder:
    """The order of rows in training. Every epoch permutes all rows; its last step may have fewer."""

    num_rows: int
    batch_rows: int  # of one step, over all workers
    num_epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_rows // self.batch_rows)

    @property
    def num_steps(self) -> int:
        return self.steps_per_epoch * self.num_epochs

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Returns the rows of a step (0 … num_steps − 1), over all workers."""
        epoch, place = divmod(step, self.steps_per_epoch)
        permutation = _permutation(self.num_rows, stable_seed(self.seed, "rows of epoch", str(epoch)))
        return permutation[place * self.batch_rows : (place + 1) * self.batch_rows]


@lru_cache(maxsize=2)
def _permutation(num_rows: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(num_rows)


def micro_batches(
    rows: Sequence[int] | NDArray[np.int64],
    lengths: Sequence[int] | NDArray[np.int64],
    *,
    rank: int,
    num_ranks: int,
    most_tokens: int,
) -> list[list[int]]:
    """Returns the rows of each forward pass of `rank`: at most `most_tokens` tokens, or one longer row.

    Ranks have nearly equal numbers of tokens, and so have a rank's forward passes. Every rank gets equally
    many passes, some perhaps empty, so that all take part in collectives.

    Rows 0 … 4 of 4, 3, 2, 2, 1 tokens on two ranks, 4 tokens at once: rank 0 has [[0], [3]], rank 1 has [[1],
    [2, 4]].
    """
    length_of = dict(zip(map(int, rows), map(int, lengths), strict=True))
    shares = _balanced(list(length_of), length_of, num_ranks)
    num_forwards = max(-(-_num_tokens(share, length_of) // most_tokens) for share in shares)
    while True:
        split = [_balanced(share, length_of, num_forwards) for share in shares]
        batches = [batch for batches in split for batch in batches if len(batch) > 1]
        if all(_num_tokens(batch, length_of) <= most_tokens for batch in batches):
            return split[rank]
        num_forwards += 1


def _balanced(rows: Sequence[int], length_of: Mapping[int, int], num_parts: int) -> list[list[int]]:
    """Returns the rows in parts of nearly equal length: the longest row first, each into the shortest
    part.
    """
    members: list[list[int]] = [[] for _ in range(num_parts)]
    filled = [(0, part) for part in range(num_parts)]  # a heap
    for row in sorted(rows, key=lambda row: (-length_of[row], row)):
        num_tokens, part = heapq.heappop(filled)
        members[part].append(row)
        heapq.heappush(filled, (num_tokens + length_of[row], part))
    return members


def _num_tokens(rows: Sequence[int], length_of: Mapping[int, int]) -> int:
    return sum(length_of[row] for row in rows)
