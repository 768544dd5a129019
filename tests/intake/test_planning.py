"""Shards come as the data is read, and a start that is cut off at any moment changes nothing of the plan."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drsft.config import Problems, Prompts
from drsft.errors import InputError
from drsft.intake.planning import PlannedShard, Planning, ShardsInOrder, plan_in_order, plan_problems
from drsft.policy.prompts import Prompter, load_prompter
from drsft.run.layout import PROBLEMS
from drsft.run.plan import read_plan, read_problems
from drsft.storage.local import LocalStore

NUM_SHARDS, SHARD_SIZE = 9, 3
NUM_WRITES = NUM_SHARDS + 2  # quarantine and plan


class KilledError(BaseException):
    """The process ends here."""


@dataclass
class DyingStore(LocalStore):
    """Writes so many objects; from then on the process is dead, whichever of its threads asks."""

    root: Path
    num_writes: int

    def __post_init__(self) -> None:
        self._writes = count()

    def _write_or_die(self) -> None:
        if next(self._writes) >= self.num_writes:
            raise KilledError

    def create(self, key: str, data: bytes) -> bool:
        self._write_or_die()
        return super().create(key, data)

    def put(self, key: str, data: bytes) -> None:
        self._write_or_die()
        super().put(key, data)


def rows(num: int = NUM_SHARDS * SHARD_SIZE) -> Iterator[dict[str, str]]:
    for number in range(num):
        yield {"problem": f"{number}+1?", "solution": f"It is {number + 1}.", "answer": str(number + 1)}
    yield {"problem": "no answer", "solution": ""}


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", Prompts())


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return Problems(path=str(path), shard_size=SHARD_SIZE)


def shards_in(store: LocalStore, problems: Problems, prompter: Prompter) -> ShardsInOrder:
    return plan_in_order(problems, store, PROBLEMS, prompter=prompter, max_model_len=256)


def contents(store: LocalStore) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.keys("")}


@pytest.mark.parametrize("num_writes", range(NUM_WRITES))
def test_a_start_killed_at_any_write_announces_only_what_is_stored_and_the_next_one_ends_alike(
    problems: Problems, prompter: Prompter, tmp_path: Path, num_writes: int
) -> None:
    undisturbed = LocalStore(tmp_path / "undisturbed")
    plan = plan_problems(problems, undisturbed, PROBLEMS, prompter=prompter, max_model_len=256)
    store = LocalStore(tmp_path / "killed")
    for earlier in (num_writes // 2, num_writes):  # killed twice
        planning = Planning(shards_in(DyingStore(store.root, earlier), problems, prompter))
        with pytest.raises(KilledError):
            planning.finish()
        assert read_plan(store) is None, "the plan comes last"
        announced = [PlannedShard(*one) for one in plan.shards.items()][: len(planning.so_far)]
        assert planning.so_far == announced
        assert all(store.exists(PROBLEMS.shard(shard.name)) for shard in announced)
    assert Planning(shards_in(store, problems, prompter)).finish() == plan
    assert contents(store) == contents(undisturbed)


def test_other_problems_after_a_kill_are_refused_and_what_is_stored_stays(
    problems: Problems, prompter: Prompter, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "run")
    with pytest.raises(KilledError):
        list(shards_in(DyingStore(store.root, 4), problems, prompter))
    before = contents(store)
    text = Path(problems.path).read_text()
    Path(problems.path).write_text(text.replace("It is 5.", "It is five."))
    with pytest.raises(InputError, match="no longer holds the problems this run was started on"):
        list(shards_in(store, problems, prompter))
    assert {key: contents(store)[key] for key in before} == before
    assert read_plan(store) is None


@pytest.mark.parametrize("change", ["It is five.", "It is 5. And more."])
def test_a_plan_that_is_made_is_compared_to_the_last_problem(
    problems: Problems, prompter: Prompter, tmp_path: Path, change: str
) -> None:
    store = LocalStore(tmp_path / "run")
    plan = plan_problems(problems, store, PROBLEMS, prompter=prompter, max_model_len=256)
    before = contents(store)
    assert Planning(shards_in(store, problems, prompter)).finish() == plan
    text = Path(problems.path).read_text()
    Path(problems.path).write_text(text.replace("It is 27.", change))
    with pytest.raises(
        InputError, match=r"rename the run or restore the file \(their number is the same, but"
    ):
        list(shards_in(store, problems, prompter))
    Path(problems.path).write_text("".join(text.splitlines(keepends=True)[:-2]))
    with pytest.raises(InputError, match="shard 00008 differs"):
        list(shards_in(store, problems, prompter))
    assert contents(store) == before


def test_what_comes_before_a_damaged_file_is_stored_and_announced(
    problems: Problems, prompter: Prompter, tmp_path: Path
) -> None:
    """And the run can go on from there once the file is whole."""
    folder = tmp_path / "files"
    folder.mkdir()
    shutil.copy(problems.path, folder / "a.jsonl")
    (folder / "b.parquet").write_bytes(b"PAR1 and no more")
    problems = Problems(path=str(folder), shard_size=SHARD_SIZE)
    store = LocalStore(tmp_path / "run")
    planning = Planning(shards_in(store, problems, prompter))
    with pytest.raises(InputError, match=r"b\.parquet is not a readable Parquet file"):
        planning.finish()
    assert planning.plan is None
    assert planning.so_far
    assert {PROBLEMS.shard(one.name) for one in planning.so_far} <= set(store.keys(PROBLEMS.prefix))
    row = {"problem": "100+1?", "solution": "It is 101.", "answer": "101"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "b.parquet")
    plan = Planning(shards_in(store, problems, prompter)).finish()
    assert plan.num_problems == len(list(read_problems(store, PROBLEMS, plan))) == NUM_SHARDS * SHARD_SIZE + 1


def test_a_plan_in_the_making_reads_no_further_than_it_is_asked(
    problems: Problems, prompter: Prompter, tmp_path: Path
) -> None:
    plans = []
    store = LocalStore(tmp_path / "run")
    planning = Planning(shards_in(store, problems, prompter), on_plan=plans.append)
    first = next(planning.further())
    assert planning.so_far == [first]
    planning.close()
    assert len(set(store.keys(PROBLEMS.prefix))) < NUM_SHARDS
    assert plans == []
    planning = Planning(shards_in(store, problems, prompter), on_plan=plans.append)
    assert [next(planning.further()), *planning.further()] == planning.so_far
    assert plans == [planning.plan]
    assert planning.finish() == Planning.of(planning.finish()).finish() == planning.plan
