"""What a round has to do for a shard: problems to rewrite, and records that still stand from before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from drsft.intake.planning import read_shard
from drsft.records import Problem, Record
from drsft.run import layout
from drsft.run.rounds import Standing, settled
from drsft.run.shards import ShardSet
from drsft.run.tables import records_from_table
from drsft.storage import Store

__all__ = ["ReadWork", "ShardWork", "first_work", "later_work", "num_problems_again"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    problems: list[Problem]
    before: dict[str, Record] = field(default_factory=dict)  # by problem id: the records of these problems
    carried: list[Record] = field(default_factory=list)

    @property
    def saved(self) -> dict[str, int]:
        """What is not sampled again; tokens are what these problems had cost."""
        tokens = sum(record.num_sampled_tokens for record in self.carried)
        return {"problems": len(self.carried), "tokens": tokens}

    def merged(self, fresh: Sequence[Record], number: int) -> list[Record]:
        """What round `number` has for the whole shard."""
        return [self._settled(_of_round(record, number)) for record in fresh] + self.carried

    def _settled(self, fresh: Record) -> Record:
        before = self.before.get(fresh.problem.problem_id)
        return fresh if before is None else settled(fresh, before)


def _of_round(record: Record, number: int) -> Record:
    """The record with its attempts, which the cascade makes without knowing of rounds."""
    if number == 1:
        return record
    attempts = (replace(one, rollout=replace(one.rollout, round=number)) for one in record.attempts)
    return replace(record, round=number, attempts=tuple(attempts))


ReadWork = Callable[[str], ShardWork]  # by the shard's name


def num_problems_again(store: Store) -> dict[str, int]:
    """How many problems of each shard are to be rewritten again, by the survey of a later round."""
    return {
        shard: commit.num_rows - commit.summary.get(Standing.CARRIED, 0)
        for shard, commit in ShardSet(store, layout.SURVEY).commits().items()
    }


def first_work(store: Store) -> ReadWork:
    """In the first round every problem is rewritten."""
    return lambda shard: ShardWork(problems=read_shard(store, layout.PROBLEMS, shard))


def later_work(store: Store, before: Store) -> ReadWork:
    """`store` is the round's and holds the survey, `before` that of the round before."""

    def read(shard: str) -> ShardWork:
        survey = ShardSet(store, layout.SURVEY).table(shard).to_pylist()
        carried = {row["problem_id"] for row in survey if row["standing"] == Standing.CARRIED}
        records = records_from_table(ShardSet(before, layout.RECORDS).table(shard))
        again = {one.problem.problem_id: one for one in records if one.problem.problem_id not in carried}
        return ShardWork(
            problems=[one.problem for one in again.values()],
            before=again,
            carried=[one for one in records if one.problem.problem_id in carried],
        )

    return read
