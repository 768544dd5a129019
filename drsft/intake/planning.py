"""Cuts a dataset into shards once, so that every later start of the run works on the same ones.

The shards are made one by one, so that work on the first can begin while the data is still being read.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import ParamSpec

from drsft.config import Benchmark, Problems
from drsft.errors import InputError
from drsft.intake.clean.contamination import ContaminationScreen
from drsft.intake.clean.screen import Screen
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter
from drsft.records import Problem
from drsft.run.layout import ProblemsFolder
from drsft.run.plan import Plan, read_plan, read_shard
from drsft.run.tables import problems_to_table
from drsft.storage import Store, table_bytes
from drsft.verify.kinds import KINDS

__all__ = ["PlannedShard", "Planning", "ShardsInOrder", "plan_in_order", "plan_problems", "screens_for"]

SHARDS_WRITTEN_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """The name and the size of a shard, which is a part of the dataset; its problems are stored already."""

    name: str
    num_problems: int


ShardsInOrder = Generator[PlannedShard, None, Plan]
P = ParamSpec("P")


class Planning:
    """The making of a plan: reads the data only as far as shards are requested with `further`.

    `so_far` are the shards made so far; `plan` is None until all data is read. Only one thread may read at a
    time.
    """

    def __init__(self, shards: ShardsInOrder, *, on_plan: Callable[[Plan], None] = lambda plan: None) -> None:
        """`on_plan` is called when all data has been read."""
        self.plan: Plan | None = None
        self.so_far: list[PlannedShard] = []
        self._rest, self._on_plan = shards, on_plan

    @classmethod
    def of(cls, plan: Plan) -> "Planning":
        """Returns a finished Planning for an existing plan."""
        planning = cls(_shards_of(plan))
        planning.finish()
        return planning

    def further(self) -> Iterator[PlannedShard]:
        """Continues to read the data, and yields each new shard; shards in `so_far` are not repeated."""
        while self.plan is None:
            try:
                shard = next(self._rest)
            except StopIteration as end:
                self.plan = end.value
                self._on_plan(end.value)
                return
            self.so_far.append(shard)
            yield shard

    def finish(self) -> Plan:
        """Reads the data to its end and returns the plan."""
        for _ in self.further():
            pass
        assert self.plan is not None
        return self.plan

    def close(self) -> None:
        """Stops reading the data, whose file is closed; call it last."""
        self._rest.close()


def _shards_of(plan: Plan) -> ShardsInOrder:
    for name, num_problems in plan.shards.items():
        yield PlannedShard(name, num_problems)
    return plan


def plan_in_order(
    problems: Problems,
    store: Store,
    folder: ProblemsFolder,
    *,
    prompter: Prompter,
    max_model_len: int,
    needs_demonstration: bool = True,
    screens: Sequence[Screen] = (),
    kinds: Collection[str] = KINDS,
) -> ShardsInOrder:
    """Yields each shard of the dataset as soon as it is stored, and returns the plan at the end.

    The quarantine file and the plan are written last. An interrupted start leaves stored shards without a
    plan: the next start cuts the data again and compares each shard with the stored one. Raises InputError if
    no problem is usable, or if the run was started with other problems.
    """
    intake = Intake()
    usable = read_problems(
        problems,
        intake,
        prompter=prompter,
        max_model_len=max_model_len,
        needs_demonstration=needs_demonstration,
        screens=screens,
        kinds=kinds,
    )
    existing = read_plan(store, folder)
    has_conversations = problems.columns.messages is not None

    def keep(name: str, shard: list[Problem]) -> None:
        if existing is not None:
            is_same = existing.shards.get(name) == len(shard)
        else:
            table = problems_to_table(shard, has_conversations=has_conversations)
            is_new = store.create(folder.shard(name), table_bytes(table))
            is_same = is_new or read_shard(store, folder, name) == shard
        if not is_same:
            raise InputError(f"{_changed(problems)} (shard {name} differs)")

    digest, shards = hashlib.blake2b(digest_size=16), dict[str, int]()
    for name, shard in _kept(usable, problems.shard_size, keep):
        digest.update(
            "".join(f"{one.problem_id}\x00{one.kind}\x00{one.demonstration}" for one in shard).encode()
        )
        shards[name] = len(shard)
        yield PlannedShard(name, len(shard))
    plan = Plan(
        path=problems.path,
        num_read=intake.num_read,
        num_problems=sum(shards.values()),
        num_duplicates=intake.num_duplicates,
        quarantined=intake.reasons,
        shards=shards,
        digest=digest.hexdigest(),
    )
    if existing is None:
        lines = (json.dumps(asdict(row)) for row in intake.quarantined)
        store.put(folder.quarantine, "".join(f"{line}\n" for line in lines).encode())
        store.create(folder.plan, json.dumps(asdict(plan), indent=1).encode())
    elif existing.digest != plan.digest:
        raise InputError(f"{_changed(problems)} ({_difference(existing, plan)})")
    return plan


def _read_to_its_end(shards: Callable[P, ShardsInOrder]) -> Callable[P, Plan]:
    def plan(*args: P.args, **options: P.kwargs) -> Plan:
        return Planning(shards(*args, **options)).finish()

    return plan


# Plans all shards at once, for callers that cannot begin with the first ones.
plan_problems = _read_to_its_end(plan_in_order)


def _changed(problems: Problems) -> str:
    return (
        f"problems.path {problems.path!r} no longer holds the problems this run was started on; "
        "rename the run or restore the file"
    )


def _difference(before: Plan, now: Plan) -> str:
    if before.num_problems == now.num_problems:
        return "their number is the same, but their texts or kinds differ"
    return f"{before.num_problems:,} problems then, {now.num_problems:,} now"


def _kept(
    usable: Iterable[Problem], shard_size: int, keep: Callable[[str, list[Problem]], None]
) -> Iterator[tuple[str, list[Problem]]]:
    """Yields each shard with its name once `keep` has stored it.

    Several are stored at once while reading continues, since most of the time is spent on disk or network.
    """
    waiting: deque[tuple[str, list[Problem], Future[None]]] = deque()

    def first() -> tuple[str, list[Problem]]:
        name, shard, kept = waiting.popleft()
        kept.result()
        return name, shard

    with ThreadPoolExecutor(SHARDS_WRITTEN_AT_ONCE, thread_name_prefix="drsft-shards") as writers:
        for number, shard in enumerate(_chunks(usable, shard_size)):
            name = f"{number:05d}"
            waiting.append((name, shard, writers.submit(keep, name, shard)))
            if len(waiting) > SHARDS_WRITTEN_AT_ONCE:
                yield first()
        while waiting:
            yield first()


def screens_for(
    problems: Problems, benchmarks: Sequence[Benchmark], *, kinds: Collection[str] = KINDS
) -> list[Screen]:
    """Returns the screens that the configuration asks for; reads the benchmarks if needed.

    The contamination screen comes first. Otherwise a clean problem could be set aside as a near-duplicate of
    a contaminated one, and the contaminated one after it.
    """
    screens: list[Screen] = []
    if problems.decontaminate is not None:
        questions = {
            benchmark.name: read_problems(
                benchmark.problems,
                Intake(),
                needs_demonstration=False,
                kinds=kinds,
            )
            for benchmark in benchmarks
        }
        screens.append(ContaminationScreen(questions, problems.decontaminate))
    if problems.near_duplicates is not None:
        from drsft.intake.clean.near_duplicates import NearDuplicateScreen  # imports scipy

        screens.append(NearDuplicateScreen(problems.near_duplicates))
    return screens


def _chunks(problems: Iterable[Problem], size: int) -> Iterator[list[Problem]]:
    iterator = iter(problems)
    while chunk := list(islice(iterator, size)):
        yield chunk
