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

NEAR = 1.005  # of the mean: a longest part that no exchange need make shorter


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
        """Returns the indices of the rows of a step (0 … num_steps − 1), over all workers."""
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
    """Returns the rows in parts of nearly equal length, the longest row of a part first.

    The longest row first, each goes into the shortest part; then rows are exchanged, which matters where a
    part has few.
    """
    ordered = sorted(rows, key=lambda row: (-length_of[row], row))
    part_of: list[int] = []
    filled = [(0, part) for part in range(num_parts)]  # a heap
    for row in ordered:
        num_tokens, part = heapq.heappop(filled)
        part_of.append(part)
        heapq.heappush(filled, (num_tokens + length_of[row], part))
    lengths = np.array([length_of[row] for row in ordered], dtype=np.int64)
    members: list[list[int]] = [[] for _ in range(num_parts)]
    for row, part in zip(
        ordered, _exchanged(np.array(part_of, dtype=np.int64), lengths, num_parts), strict=True
    ):
        members[part].append(row)
    return members


def _exchanged(part_of: NDArray[np.int64], lengths: NDArray[np.int64], num_parts: int) -> NDArray[np.int64]:
    """Returns the rows' parts after exchanges that make the longest part shorter, until it is near the mean.

    The longest gives one row, and takes a shorter one or none. The sum of the parts' squares falls each time,
    so this ends.
    """
    part_of, nothing = part_of.copy(), np.arange(num_parts)  # what a part gives that only takes
    totals = np.bincount(part_of, lengths, num_parts).astype(np.int64)
    while totals.max() * num_parts > NEAR * totals.sum():
        longest = int(totals.argmax())
        given = np.flatnonzero(part_of == longest)
        other = np.concatenate([part_of, nothing])
        less = lengths[given, None] - np.concatenate([lengths, np.zeros_like(nothing)])
        longer = np.maximum(totals[longest] - less, totals[other] + less)
        longer[:, other == longest] = totals[longest]
        place, taken = np.unravel_index(longer.argmin(), longer.shape)
        if longer[place, taken] >= totals[longest]:
            break
        totals[longest] -= less[place, taken]
        totals[other[taken]] += less[place, taken]
        part_of[given[place]] = other[taken]
        if taken < len(part_of):
            part_of[taken] = longest
    return part_of


def _num_tokens(rows: Sequence[int], length_of: Mapping[int, int]) -> int:
    return sum(length_of[row] for row in rows)
