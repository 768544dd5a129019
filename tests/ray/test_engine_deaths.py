"""On a local Ray: a row that kills its engine is set aside; an engine that dies each time ends the run."""

import asyncio
import os
import resource
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest

from drsft.config import RunConfig, Target
from drsft.config.configfile import load_config
from drsft.errors import ModelError, StageError
from drsft.intake.planning import Plan, Planning, plan_problems
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter, load_prompter
from drsft.policy.protocol import Policy
from drsft.records import Completion
from drsft.run import layout
from drsft.run.plan import read_shard
from drsft.run.shards import ShardSet
from drsft.run.summary import ShardSummary
from drsft.stages.actors import MakePolicy
from drsft.stages.engine_deaths import KILLED
from drsft.stages.progress_board import start_board
from drsft.stages.rewriting import run_rewriting
from drsft.storage import Store, open_store
from tests.ray.test_runs import CONFIG
from tests.support.local_ray import local_ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

THIRD = "00002"
SMALL = (
    "problems.limit=24",
    "problems.shard_size=4",
    "resources.rewrite_actors=1",
    "resources.shards_in_flight_per_actor=3",
)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(__name__):
        yield


@pytest.fixture
def planned(tmp_path: Path) -> tuple[RunConfig, Store, Plan]:
    config = load_config(CONFIG, (*SMALL, f"storage={tmp_path}"))
    store = open_store(str(tmp_path / "run"))
    prompter = load_prompter(config.target.model, config.target.prompts)
    max_model_len = config.target.max_model_len
    plan = plan_problems(
        config.problems, store, layout.PROBLEMS, prompter=prompter, max_model_len=max_model_len
    )
    return config, store, plan


def deadly(die: Callable[[], None], prompts: Collection[tuple[int, ...]], *_: object) -> Policy:
    """Dies of these prompts."""

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        if tuple(prompt_ids) in prompts:
            die()
        return text_completion("no idea")

    return FakePolicy(answer)


def raise_death() -> None:
    raise StageError(f"the vLLM engine died: CUDA error in process {os.getpid()}")


def end_process() -> None:
    os._exit(1)


def prompts_of(planned: tuple[RunConfig, Store, Plan], *rows: int) -> list[tuple[int, ...]]:
    """The plain prompts of rows of a shard, the third."""
    config, store, _ = planned
    prompter = load_prompter(config.target.model, config.target.prompts)
    problems = read_shard(store, layout.PROBLEMS, THIRD)
    return [prompter.plain(problems[row]) for row in rows]


def rewritten(planned: tuple[RunConfig, Store, Plan], make_policy: MakePolicy) -> str:
    """The line that the run ended with."""
    config, store, plan = planned
    with pytest.raises(StageError) as caught:
        run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=make_policy)
    return str(caught.value)


@pytest.mark.parametrize(
    ("die", "cause"), [(raise_death, "CUDA error"), (end_process, KILLED)], ids=["told", "without a word"]
)
def test_the_row_that_kills_the_engine_is_set_aside_and_all_others_are_kept(
    planned: tuple[RunConfig, Store, Plan],
    caplog: pytest.LogCaptureFixture,
    die: Callable[[], None],
    cause: str,
) -> None:
    config, store, plan = planned
    make_policy = partial(deadly, die, prompts_of(planned, 2))
    run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=make_policy)
    shards = ShardSet(store, layout.RECORDS)
    assert shards.done() == plan.shards.keys()
    assert sum(table.num_rows for table in shards.tables()) == plan.num_problems
    summaries = dict(zip(sorted(plan.shards), shards.summaries(ShardSummary.from_json), strict=True))
    (row,) = (row for summary in summaries.values() for row in summary.set_aside)
    assert row in summaries[THIRD].set_aside
    culprit = read_shard(store, layout.PROBLEMS, THIRD)[2].problem_id
    assert row.place == f"shard {THIRD}, problem {culprit}"
    assert cause in row.detail
    for one in shards.table(THIRD).to_pylist():
        is_set_aside = one["problem_id"] == culprit
        assert one["source"] == ("dropped" if is_set_aside else "expert")
        assert is_set_aside == (not one["attempts"])
    assert f"{row.place} is set aside: its engine dies each time that it is sampled" in caplog.text


def test_a_shard_of_which_several_rows_kill_the_engine_is_named_and_the_others_are_kept(
    planned: tuple[RunConfig, Store, Plan],
) -> None:
    line = rewritten(planned, partial(deadly, end_process, prompts_of(planned, 0, 3)))
    _, store, plan = planned
    assert plan.shards.keys() - ShardSet(store, layout.RECORDS).done() == {THIRD}
    assert line.startswith(f"rewrite: {THIRD} killed the engine 3 times")
    assert f"{KILLED}; no single row is to blame" in line
    assert "\n" not in line


def start_dead(starts: Path, target: Target, prompter: Prompter) -> Policy:
    with starts.open("a") as file:
        file.write("started\n")
    os._exit(1)


def test_an_engine_whose_process_ends_at_each_start_ends_the_run(
    planned: tuple[RunConfig, Store, Plan], tmp_path: Path
) -> None:
    line = rewritten(planned, partial(start_dead, tmp_path / "starts"))
    assert "the engine's process ended 3 times while it started" in line
    assert (tmp_path / "starts").read_text().count("started") == 3


def refuse(target: Target, prompter: Prompter) -> Policy:
    raise ModelError("target.model 'x': vLLM cannot start with it: no such layer")


def test_an_engine_that_says_why_it_cannot_start_ends_the_run_with_that(
    planned: tuple[RunConfig, Store, Plan],
) -> None:
    config, store, plan = planned
    with pytest.raises(ModelError, match=r"^target\.model 'x': vLLM cannot start with it: no such layer$"):
        run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=refuse)


def take_thread() -> None:
    """Fails, as a thread wants a stack, and so does everything later that wants memory of the system."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    threading.Thread(target=print).start()


def take_all_memory() -> None:
    """No error anywhere, but Ray's callbacks find no room for a frame of Python."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used, used))


def take_thread_in_callback() -> None:
    asyncio.get_running_loop().call_soon(take_thread)


def starved_once(starts: Path, starve: Callable[[], None], target: Target, prompter: Prompter) -> Policy:
    """The first process has no memory left when it has answered once."""
    with starts.open("a") as file:
        file.write("started\n")
    is_first = starts.read_text().count("started") == 1

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        if is_first:
            starve()
        return text_completion("no idea")

    return FakePolicy(answer)


@pytest.mark.parametrize("starve", [take_thread, take_thread_in_callback, take_all_memory])
def test_an_actor_without_memory_is_replaced_and_nothing_is_lost(
    planned: tuple[RunConfig, Store, Plan], tmp_path: Path, starve: Callable[[], None]
) -> None:
    config, store, plan = planned
    starts = tmp_path / "starts"
    make_policy = partial(starved_once, starts, starve)
    run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=make_policy)
    assert starts.read_text().count("started") == 2
    assert ShardSet(store, layout.RECORDS).done() == plan.shards.keys()


def never_answers(starts: Path, target: Target, prompter: Prompter) -> Policy:
    """The first process gives no answer."""
    with starts.open("a") as file:
        file.write("started\n")
    is_first = starts.read_text().count("started") == 1

    async def serve(completions: Sequence[Completion]) -> None:
        if is_first:
            await asyncio.Event().wait()

    return FakePolicy(lambda prompt_ids, seed: text_completion("no idea"), serve=serve)


def test_an_actor_that_gets_no_further_is_replaced(
    planned: tuple[RunConfig, Store, Plan], tmp_path: Path
) -> None:
    config, store, plan = planned
    starts = tmp_path / "starts"
    resources = config.resources.model_copy(update={"stalled_after_s": 5.0})
    config = config.model_copy(update={"resources": resources})
    make_policy = partial(never_answers, starts)
    run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=make_policy)
    assert starts.read_text().count("started") == 2
    assert ShardSet(store, layout.RECORDS).done() == plan.shards.keys()
