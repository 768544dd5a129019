"""Turns the samples of a benchmark into its scores.

Axes: S trainings with different seeds, P problems, K samples of a problem in one training.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drsft.evaluate.estimators import avg_at_k, maj_at_k, pass_at_k
from drsft.evaluate.intervals import Estimate
from drsft.evaluate.paired import PairedDifference, paired_difference
from drsft.records import Outcome

__all__ = ["BenchmarkSamples", "Score", "compare", "score"]

NO_VOTE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSamples:
    """The samples of one arm (or one training, or the target) on one benchmark, as outcomes."""

    problem_ids: tuple[str, ...]  # P, sorted
    correct_SPK: NDArray[np.float64]  # 1 or 0
    group_SPK: NDArray[np.int64]  # of the answer, NO_VOTE for none
    num_tokens_SPK: NDArray[np.int64]
    outcome_SPK: NDArray[np.object_]  # values of Outcome

    @classmethod
    def from_tables(cls, tables: Sequence[pa.Table]) -> "BenchmarkSamples":
        """Builds the samples from one table for each training, as `read_samples` returns it.

        All have the same problems and K.
        """
        ids = tables[0]["problem_id"].unique().to_pylist()
        shape = (len(tables), len(ids), -1)
        outcomes = np.stack([table["outcome"].to_numpy(zero_copy_only=False) for table in tables])
        groups = [table["answer_group"].fill_null(NO_VOTE).to_numpy() for table in tables]
        return cls(
            problem_ids=tuple(ids),
            correct_SPK=(outcomes == Outcome.CORRECT.value).astype(np.float64).reshape(shape),
            group_SPK=np.stack(groups).astype(np.int64).reshape(shape),
            num_tokens_SPK=np.stack([table["num_tokens"].to_numpy() for table in tables]).reshape(shape),
            outcome_SPK=outcomes.reshape(shape),
        )

    def only(self, problem_ids: Sequence[str]) -> "BenchmarkSamples":
        """Returns the samples of the problems in `problem_ids` only."""
        place = {one: index for index, one in enumerate(self.problem_ids)}
        kept = [place[one] for one in problem_ids]
        return BenchmarkSamples(
            problem_ids=tuple(problem_ids),
            correct_SPK=self.correct_SPK[:, kept],
            group_SPK=self.group_SPK[:, kept],
            num_tokens_SPK=self.num_tokens_SPK[:, kept],
            outcome_SPK=self.outcome_SPK[:, kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """All scores of one arm on one benchmark; shares are of samples, in 0..1."""

    avg_at_k: Estimate
    pass_at_k: Estimate  # k as in avg@k
    maj_at_k: Estimate | None  # None where no sample votes, as with code
    truncated_share: float
    no_answer_share: float
    unjudged_share: float
    mean_tokens: float
    mean_tokens_correct: float | None  # of correct samples; None without any


def score(samples: BenchmarkSamples) -> Score:
    outcomes = Counter(samples.outcome_SPK.ravel().tolist())
    total = outcomes.total()
    is_correct = samples.correct_SPK > 0
    lengths = samples.num_tokens_SPK
    can_vote = bool((samples.group_SPK > NO_VOTE).any())
    return Score(
        avg_at_k=avg_at_k(samples.correct_SPK),
        pass_at_k=pass_at_k(samples.correct_SPK, samples.correct_SPK.shape[2]),
        maj_at_k=maj_at_k(samples.group_SPK) if can_vote else None,
        truncated_share=outcomes[Outcome.TRUNCATED] / total,
        no_answer_share=outcomes[Outcome.NO_ANSWER] / total,
        unjudged_share=outcomes[Outcome.UNJUDGED] / total,
        mean_tokens=float(lengths.mean()),
        mean_tokens_correct=float(lengths[is_correct].mean()) if is_correct.any() else None,
    )


def compare(first: BenchmarkSamples, second: BenchmarkSamples) -> PairedDifference | None:
    """Returns the accuracy of `first` minus that of `second` on the problems sampled for both; None if no
    problem was sampled for both.
    """
    shared = sorted(set(first.problem_ids) & set(second.problem_ids))
    if not shared:
        return None
    return paired_difference(first.only(shared).correct_SPK, second.only(shared).correct_SPK)
