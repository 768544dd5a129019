"""Decides which samples of a phase can still be kept while others are being sampled.

Where the order of preference is known beforehand (random, first), a sample can no longer be kept once enough
samples that rank before it are accepted, so it is stopped. Which samples count then depends on ranks and
verdicts alone, not on how long anything took.
"""

from drsft.config import Selection
from drsft.records import Attempt
from drsft.rewrite.selection import Rank, RankedSelection, rank_of

__all__ = ["EarlyStop"]


class EarlyStop:
    """Tracks the accepted attempts of one phase of one problem; the caller adds each accepted attempt.

    The order of these calls does not matter. With `is_on` false, every sample can still be kept.
    """

    def __init__(
        self, how: Selection, num_wanted: int, *, problem_id: str, run_seed: int, is_on: bool
    ) -> None:
        # Other selections compare what was sampled, so every sample has to be finished.
        self._how: RankedSelection | None = how if is_on and how in ("random", "first") else None
        self._num_wanted = num_wanted
        self._problem_id, self._run_seed = problem_id, run_seed
        self._best: dict[tuple[int, ...], Rank] = {}  # of each different accepted completion
        self._last: Rank | None = None  # of the wanted ones, once there are enough

    @property
    def has_enough(self) -> bool:
        return len(self._best) >= self._num_wanted

    def add(self, accepted: Attempt) -> None:
        rank = self._rank(accepted.rollout.sample_index)
        token_ids = accepted.rollout.completion.token_ids
        self._best[token_ids] = min(rank, self._best.get(token_ids, rank))
        if self.has_enough:
            self._last = sorted(self._best.values())[self._num_wanted - 1]

    def can_be_kept(self, sample_index: int) -> bool:
        """Returns whether a sample could still be kept; False if it ranks behind enough accepted ones."""
        return self._last is None or self._rank(sample_index) <= self._last

    def _rank(self, sample_index: int) -> Rank:
        if self._how is None:
            return 0, 0  # all samples rank alike
        return rank_of(self._how, sample_index, problem_id=self._problem_id, run_seed=self._run_seed)
