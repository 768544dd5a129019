"""On a local Ray: an engine that dies each time ends the run after three tries; other work is kept."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

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
from drsft.run.shards import ShardSet
from drsft.stages.engine_deaths import KILLED
from drsft.stages.progress_board import start_board
from drsft.stages.rewriting import MakePolicy, run_rewriting
from drsft.storage import Store, open_store
from tests.ray.test_runs import CONFIG
from tests.support.local_ray import local_ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

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


def deadly(die: Callable[[], None], asked: Path, target: Target, prompter: Prompter) -> Policy:
    """Dies of one prompt, the first that it is ever asked."""

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        if not asked.exists():
            asked.write_text(repr(tuple(prompt_ids)))
        if asked.read_text() == repr(tuple(prompt_ids)):
            die()
        return text_completion("no idea")

    return FakePolicy(answer)


def raise_death() -> None:
    raise StageError(f"the vLLM engine died: CUDA error in process {os.getpid()}")


def end_process() -> None:
    os._exit(1)


def rewritten(planned: tuple[RunConfig, Store, Plan], make_policy: MakePolicy) -> str:
    """The line that the run ended with."""
    config, store, plan = planned
    with pytest.raises(StageError) as caught:
        run_rewriting(config, store.url, Planning.of(plan), start_board(), make_policy=make_policy)
    return str(caught.value)


@pytest.mark.parametrize(
    ("die", "cause"), [(raise_death, "CUDA error"), (end_process, KILLED)], ids=["told", "without a word"]
)
def test_the_shard_that_kills_the_engine_is_named_and_the_others_are_kept(
    planned: tuple[RunConfig, Store, Plan], tmp_path: Path, die: Callable[[], None], cause: str
) -> None:
    line = rewritten(planned, partial(deadly, die, tmp_path / "asked"))
    _, store, plan = planned
    (lost,) = plan.shards.keys() - ShardSet(store, layout.RECORDS).done()
    assert line.startswith(f"rewrite: {lost} killed the engine 3 times")
    assert cause in line
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
