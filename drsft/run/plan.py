"""The result of the intake: the problems of a run or of a benchmark, cut into shards, and the rows set aside.

drsft/intake/planning.py creates it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from drsft.errors import StorageError
from drsft.records import Problem, QuarantinedRow
from drsft.run.layout import PROBLEMS, ProblemsFolder
from drsft.run.tables import problems_from_table
from drsft.storage import Store, read_table
from drsft.storage.typed import read_stored

__all__ = [
    "Plan",
    "copy_plan",
    "read_plan",
    "read_problems",
    "read_quarantine",
    "read_shard",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The shards and counts of a data set.

    Shards are named by their number; `digest` is over all problems in order.
    """

    path: str
    num_read: int
    num_problems: int
    num_duplicates: int
    quarantined: dict[str, int]  # rows set aside, by reason
    shards: dict[str, int]  # name -> problems
    digest: str


def read_plan(store: Store, folder: ProblemsFolder = PROBLEMS) -> Plan | None:
    """Returns the plan, or None if nothing was planned yet."""
    return read_stored(store, folder.plan, Plan) if store.exists(folder.plan) else None


def read_quarantine(store: Store, folder: ProblemsFolder = PROBLEMS) -> Iterator[QuarantinedRow]:
    for line in store.read(folder.quarantine).decode().splitlines():
        try:
            yield _ROW.validate_json(line)
        except ValidationError as error:
            raise StorageError(f"{store.url}/{folder.quarantine} is damaged: {line[:100]}") from error


def read_shard(store: Store, folder: ProblemsFolder, name: str) -> list[Problem]:
    return problems_from_table(read_table(store, folder.shard(name)))


def read_problems(store: Store, folder: ProblemsFolder, plan: Plan) -> Iterator[Problem]:
    """Yields all problems, shard by shard."""
    for shard in sorted(plan.shards):
        yield from read_shard(store, folder, shard)


def copy_plan(source: Store, target: Store) -> None:
    """Copies the plan and the quarantine file from a run's store to a later round's, unless they exist.

    A later round has the same problems, and reads them in the records of the round before.
    """
    for key in (PROBLEMS.quarantine, PROBLEMS.plan):
        target.create(key, source.read(key))


_ROW = TypeAdapter(QuarantinedRow)
