"""On a local Ray: rewriting begins with the first shards, while the data behind them is still being read."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
import ray

from drsft.config import Target
from drsft.config.configfile import load_config
from drsft.errors import InputError
from drsft.intake.planning import Planning, ShardsInOrder, plan_in_order
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter, load_prompter
from drsft.policy.protocol import Policy
from drsft.records import Completion
from drsft.run import layout
from drsft.run.run import Run
from drsft.stages.progress_board import start_board
from drsft.stages.rewriting import run_rewriting
from drsft.storage import open_store
from tests.ray.test_runs import CONFIG
from tests.support.local_ray import local_ray
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

SMALL = (
    "problems.limit=24",
    "problems.shard_size=2",
    "resources.rewrite_actors=2",
    "resources.shards_in_flight_per_actor=2",
)
NUM_SHARDS, NUM_AT_ONCE = 12, 3  # those that are read before the engines start


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(__name__):
        yield


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = load_config(CONFIG, (*SMALL, f"storage={tmp_path}"))
    return Run(open_store(str(tmp_path / "run")), config)


def make_policy(target: Target, prompter: Prompter) -> Policy:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        return text_completion("no idea")

    return FakePolicy(answer)


def shards_in(run: Run) -> ShardsInOrder:
    config = run.config
    prompter = load_prompter(config.target.model, config.target.prompts)
    max_model_len = config.target.max_model_len
    return plan_in_order(
        config.problems, run.store, layout.PROBLEMS, prompter=prompter, max_model_len=max_model_len
    )


def begun(shards: ShardsInOrder) -> Planning:
    planning = Planning(shards)
    assert len(list(islice(planning.further(), NUM_AT_ONCE))) == NUM_AT_ONCE
    assert planning.plan is None
    return planning


def stopping(run: Run, stop: Callable[[], None]) -> ShardsInOrder:
    """Calls `stop` when all but the first shards are still to be read."""
    planning = Planning(shards_in(run))
    for number, shard in enumerate(planning.further()):
        if number == NUM_AT_ONCE:
            stop()
        yield shard
    return planning.finish()


def test_the_first_shards_are_committed_before_the_others_are_read(run: Run) -> None:
    done_early: set[str] = set()

    def wait_for_records() -> None:
        wait_until(lambda: len(run.records.done()) == NUM_AT_ONCE)
        done_early.update(run.records.done())

    planning, board = begun(stopping(run, wait_for_records)), start_board()
    run_rewriting(run.config, run.url, planning, board, make_policy=make_policy)
    assert done_early == {f"{number:05d}" for number in range(NUM_AT_ONCE)}
    assert planning.plan == run.plan()
    assert run.records.done() == {f"{number:05d}" for number in range(NUM_SHARDS)}
    (stage,) = ray.get(board.snapshot.remote())
    assert (stage.done, stage.total, stage.is_done) == (24, 24, True)


def test_a_failure_in_later_rows_is_its_one_line_and_the_same_run_goes_on_from_what_is_committed(
    run: Run,
) -> None:
    def fail() -> None:
        wait_until(lambda: len(run.records.done()) == NUM_AT_ONCE)
        raise InputError("b.parquet is not a readable Parquet file")

    planning = begun(stopping(run, fail))
    with pytest.raises(InputError, match=r"^b\.parquet is not a readable Parquet file$"):
        run_rewriting(run.config, run.url, planning, start_board(), make_policy=make_policy)
    kept = run.records.commits()
    assert len(kept) == NUM_AT_ONCE
    assert run.plan() is None
    again = begun(shards_in(run))  # all that is planned before the engines start is done
    run_rewriting(run.config, run.url, again, start_board(), make_policy=make_policy)
    assert run.records.done() == {f"{number:05d}" for number in range(NUM_SHARDS)}
    assert {shard: run.records.commits()[shard] for shard in kept} == kept
