"""Which rows a step holds, and who computes them: pure functions of seed, step and world.

Nothing here has state, so a step's number is the whole position in the data: a resumed run sees no row twice
and misses none, also with another number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drsft.records import stable_seed

__all__ = ["RowOrder", "micro_batches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOrder:
    """Every epoch is its own permutation of all rows; its last step holds what is left."""

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
        """The rows of step 0 … num_steps − 1, over all workers."""
        epoch, place = divmod(step, self.steps_per_epoch)
        permutation = _permutation(self.num_rows, stable_seed(self.seed, "rows of epoch", str(epoch)))
        return permutation[place * self.batch_rows : (place + 1) * self.batch_rows]


@lru_cache(maxsize=2)
def _permutation(num_rows: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(num_rows)


def micro_batches(
    rows: Sequence[int] | NDArray[np.int64], *, rank: int, num_ranks: int, micro_batch_rows: int
) -> list[list[int]]:
    """The rows of each forward of `rank`. Every rank gets equally many, some of them perhaps empty:
    collectives must meet.

    Rows 0 … 4 on two ranks, two rows at once: rank 0 has [[0, 2], [4]], rank 1 has [[1, 3], []].
    """
    mine = [int(row) for row in rows[rank::num_ranks]]
    longest_share = -(-len(rows) // num_ranks)
    starts = range(0, longest_share, micro_batch_rows)
    return [mine[start : start + micro_batch_rows] for start in starts]
