"""Which samples of a stage can still be kept while others of it are being sampled.

Where the order of preference is known beforehand (random, first), an accepted sample beats all that stand
behind it: they need not be finished. Which samples count is then a matter of places and verdicts alone, so
what is recorded does not depend on how long anything took.
"""

from drsft.config import Selection
from drsft.records import Attempt
from drsft.rewrite.selection import Place, PlacedSelection, place

__all__ = ["Race"]


class Race:
    """Of one problem's stage; `enter` every attempt that was accepted, in any order."""

    def __init__(
        self, how: Selection, num_wanted: int, *, problem_id: str, run_seed: int, stops_beaten: bool
    ) -> None:
        # Other selections compare what was sampled: every sample of theirs has to be finished.
        self._how: PlacedSelection | None = how if stops_beaten and how in ("random", "first") else None
        self._num_wanted = num_wanted
        self._problem_id, self._run_seed = problem_id, run_seed
        self._best: dict[tuple[int, ...], Place] = {}  # of each different accepted completion
        self._last: Place | None = None  # of the wanted ones, once there are enough

    @property
    def has_enough(self) -> bool:
        return len(self._best) >= self._num_wanted

    def enter(self, accepted: Attempt) -> None:
        here = self._place(accepted.rollout.sample_index)
        token_ids = accepted.rollout.completion.token_ids
        self._best[token_ids] = min(here, self._best.get(token_ids, here))
        if self.has_enough:
            self._last = sorted(self._best.values())[self._num_wanted - 1]

    def is_beaten(self, sample_index: int) -> bool:
        """Whether the sample stands behind enough accepted ones, whatever it turns out to be."""
        return self._last is not None and self._place(sample_index) > self._last

    def _place(self, sample_index: int) -> Place:
        if self._how is None:
            return 0, 0  # a tie beats nobody
        return place(self._how, sample_index, problem_id=self._problem_id, run_seed=self._run_seed)
