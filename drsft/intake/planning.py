"""Cuts a dataset into shards once, so that every later start of the run works on the same ones."""

import hashlib
import json
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice

from drsft.config import Benchmark, Problems
from drsft.errors import InputError
from drsft.intake.clean.contamination import ContaminationScreen
from drsft.intake.clean.screen import Screen
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import Prompter
from drsft.records import Problem
from drsft.run.layout import ProblemsFolder
from drsft.run.plan import Plan, read_plan
from drsft.run.tables import problems_to_table
from drsft.storage import Store, table_bytes
from drsft.verify.kinds import KINDS

__all__ = ["plan_problems", "screens_for"]

SHARDS_WRITTEN_AT_ONCE = 4


def plan_problems(
    problems: Problems,
    store: Store,
    folder: ProblemsFolder,
    *,
    prompter: Prompter,
    max_model_len: int,
    needs_demonstration: bool = True,
    screens: Sequence[Screen] = (),
    kinds: Collection[str] = KINDS,
) -> Plan:
    """Reads the dataset, writes its shards and the quarantine into `folder`, then the plan; once for a run.

    Raises InputError when nothing is usable, or when the run was started on other problems.
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
    target = store if existing is None else None
    shards, digest = _write_shards(usable, problems, target, folder)
    plan = Plan(
        path=problems.path,
        num_read=intake.num_read,
        num_problems=sum(shards.values()),
        num_duplicates=intake.num_duplicates,
        quarantined=intake.reasons,
        shards=shards,
        digest=digest,
    )
    if existing is None:
        lines = (json.dumps(asdict(row)) for row in intake.quarantined)
        store.put(folder.quarantine, "".join(f"{line}\n" for line in lines).encode())
        store.create(folder.plan, json.dumps(asdict(plan), indent=1).encode())
    elif existing.digest != plan.digest:
        raise InputError(
            f"problems.path {problems.path!r} no longer holds the problems this run was started on "
            f"({existing.num_problems}, now {plan.num_problems}); rename the run or restore the file"
        )
    return plan


def _write_shards(
    usable: Iterator[Problem], config: Problems, store: Store | None, folder: ProblemsFolder
) -> tuple[dict[str, int], str]:
    """Writes each shard, if there is a store; problems by shard, and a digest of what they are.

    Some shards are written at once, beside the reading: most of the time is the disk's or the network's.
    """
    has_conversations = config.columns.messages is not None
    digest, shards = hashlib.blake2b(digest_size=16), {}

    def write(name: str, shard: list[Problem]) -> None:
        if store is not None:
            table = problems_to_table(shard, has_conversations=has_conversations)
            store.put(folder.shard(name), table_bytes(table))

    written: deque[Future[None]] = deque()
    with ThreadPoolExecutor(SHARDS_WRITTEN_AT_ONCE, thread_name_prefix="drsft-shards") as writers:
        for number, shard in enumerate(_chunks(usable, config.shard_size)):
            name = f"{number:05d}"
            shards[name] = len(shard)
            digest.update(
                "".join(f"{one.problem_id}\x00{one.kind}\x00{one.demonstration}" for one in shard).encode()
            )
            written.append(writers.submit(write, name, shard))
            if len(written) > SHARDS_WRITTEN_AT_ONCE:
                written.popleft().result()
        for future in written:
            future.result()
    return shards, digest.hexdigest()


def screens_for(
    problems: Problems, benchmarks: Sequence[Benchmark], *, kinds: Collection[str] = KINDS
) -> list[Screen]:
    """What the configuration asks training problems to be screened for; reads the benchmarks where needed.

    Contamination comes first: a problem of a benchmark must not stand for the ones that resemble it.
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
        from drsft.intake.clean.near_duplicates import NearDuplicateScreen  # brings scipy along

        screens.append(NearDuplicateScreen(problems.near_duplicates))
    return screens


def _chunks(problems: Iterable[Problem], size: int) -> Iterator[list[Problem]]:
    iterator = iter(problems)
    while chunk := list(islice(iterator, size)):
        yield chunk
