"""The work of a round on one shard: the problems to rewrite, and the records of the previous round that it
takes over unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from drsft.records import Problem, Record
from drsft.run import layout
from drsft.run.plan import read_shard
from drsft.run.rounds import SurveyFinding, better_of, survey_counts
from drsft.run.run import Run
from drsft.run.tables import records_from_table
from drsft.storage import Store

__all__ = ["ReadTask", "ShardTask", "first_round_task", "later_round_task", "num_problems_to_rewrite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    problems: list[Problem]  # to rewrite
    before: dict[str, Record] = field(default_factory=dict)  # by problem id: of the round before
    carried_over: list[Record] = field(default_factory=list)

    @property
    def num_tokens_saved(self) -> int:
        """The number of tokens that earlier rounds sampled for the records that this round takes over."""
        return sum(record.num_sampled_tokens for record in self.carried_over)

    def all_records(self, fresh: Sequence[Record], round_number: int) -> list[Record]:
        """Returns all records of the shard after the round; `fresh` are those that the round rewrote."""
        return [self._better(_of_round(record, round_number)) for record in fresh] + self.carried_over

    def _better(self, fresh: Record) -> Record:
        before = self.before.get(fresh.problem.problem_id)
        return fresh if before is None else better_of(fresh, before)


def _of_round(record: Record, number: int) -> Record:
    """Returns the record and its attempts with the round's number set, which the cascade does not know."""
    if number == 1:
        return record
    attempts = (replace(one, rollout=replace(one.rollout, round=number)) for one in record.attempts)
    return replace(record, round=number, attempts=tuple(attempts))


ReadTask = Callable[[str], ShardTask]  # by the shard's name


def num_problems_to_rewrite(round_run: Run) -> dict[str, int]:
    """Returns, by shard, how many problems a later round rewrites according to its survey."""
    return {
        shard: counts.total() - counts[SurveyFinding.CARRIED_OVER]
        for shard, counts in survey_counts(round_run).items()
    }


def first_round_task(store: Store) -> ReadTask:
    """Returns the function that reads a shard's task in the first round, where every problem is rewritten."""
    return lambda shard: ShardTask(problems=read_shard(store, layout.PROBLEMS, shard))


def later_round_task(store: Store, before: Store) -> ReadTask:
    """Returns the function that reads a shard's task in a later round.

    `store` is the round's and holds the survey; `before` is the previous round's.
    """

    def read(shard: str) -> ShardTask:
        survey = Run(store).survey.table(shard).to_pylist()
        carried_over = {row["problem_id"] for row in survey if row["standing"] == SurveyFinding.CARRIED_OVER}
        records = records_from_table(Run(before).records.table(shard))
        again = {one.problem.problem_id: one for one in records if one.problem.problem_id not in carried_over}
        return ShardTask(
            problems=[one.problem for one in again.values()],
            before=again,
            carried_over=[one for one in records if one.problem.problem_id in carried_over],
        )

    return read
