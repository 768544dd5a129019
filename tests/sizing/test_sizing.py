"""`drsft plan` against a run that is written by hand, with a slow clock of round numbers."""

import json
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from drsft.cli.plan import show_plan
from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.errors import InputError
from drsft.gap.scored_texts import ROW_COLUMNS
from drsft.run import layout
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.sizing.estimate import Prices, estimate
from drsft.sizing.rates import measure
from drsft.storage import LocalStore

QUICKSTART = Path(__file__).parents[2] / "jobs/configs/quickstart.yaml"
SMALL = (
    "problems.limit=100",
    "train.arms=[{name: sft, data: expert, objective: {kind: sft}}, {name: dr+dft}]",
    "train.seeds=[0]",
    "train.num_epochs=2",
    "evaluate.num_samples=4",
)
ONE_SHARD = {"num_benchmark_problems": 300, "num_benchmark_shards": 1}


def commit(
    store: LocalStore, prefix: str, shard: str, began_s: float, ended_s: float, **cost: object
) -> None:
    times = {"started_at": 1000.0 + began_s, "ended_at": 1000.0 + ended_s}
    ShardSet(store, prefix).commit(shard, pa.table({"a": [shard]}), times | cost)


def stage(store: LocalStore, name: str, began_s: float, wall_s: float, term: int = 1) -> None:
    time = {"term": term, "stage": name, "began_at": 1000.0 + began_s, "wall_s": wall_s}
    store.put(f"history/{term:06d}-{name}.json", json.dumps(time).encode())


@pytest.fixture
def config() -> RunConfig:
    return load_config(QUICKSTART, SMALL)


@pytest.fixture
def store(tmp_path: Path, config: RunConfig) -> LocalStore:
    """100 problems in 2 shards on 2 engines; 2 trainings; 3 models on 2 engines."""
    store = LocalStore(tmp_path / "run")
    store.put("config.json", config.model_dump_json().encode())
    plan = {"path": "x", "num_read": 100, "num_problems": 100, "num_duplicates": 0, "quarantined": {}}
    plan |= {"shards": {"0": 50, "1": 50}, "digest": ""}
    store.put("problems/plan.json", json.dumps(plan).encode())
    stage(store, "start", 0, 10)
    stage(store, "rewrite", 10, 30)  # 10 s to start, 20 s of work
    rewritten = {"sources": {"own": 50}, "tokens": {"self_align": 900}, "stopped_tokens": 100}
    commit(store, "rewrite", "0", 20, 40, actor="a", **rewritten)
    commit(store, "rewrite", "1", 25, 35, actor="b", **rewritten)
    stage(store, "gap", 40, 15)
    commit(store, layout.GAP.scores(ROW_COLUMNS), "0", 45, 55, num_units=50, num_tokens=3000)
    commit(store, layout.GAP.scores(ROW_COLUMNS), "1", 45, 55, num_units=50, num_tokens=3000)
    stage(store, "train", 55, 50)
    for arm, ended_s in zip(config.train.arms, (82, 105), strict=True):  # 20 s of steps each, 3 s between
        done = {"wall_s": 20, "ended_at": 1000.0 + ended_s, "loss_tokens": 8000, "num_workers": 2}
        store.put(layout.training(config.train, arm, 0).done, json.dumps(done).encode())
    stage(store, "evaluate", 105, 41)  # 5 s to start, then 15 s, 6 s between, 15 s
    [benchmark] = config.evaluate.benchmarks
    names = ["base", *(layout.training(config.train, arm, 0).model_name for arm in config.train.arms)]
    engines = [("a", 110, 125), ("b", 110, 125), ("a", 131, 146)]
    for name, (engine, began_s, ended_s) in zip(names, engines, strict=True):
        prefix = layout.samples(config.evaluate, name, benchmark)
        commit(store, prefix, "0", began_s, ended_s, actor=engine, num_units=1200, num_tokens=24_000)
    stage(store, "report", 146, 4)
    return store


def test_rates_are_those_of_the_run(store: LocalStore) -> None:
    rates = measure(Run(store))
    assert rates.other_s == 14
    rewrite, gap = rates.stages["rewrite"], rates.stages["gap"]
    assert (rewrite.startup_s, rewrite.tokens_per_unit, rewrite.tokens_per_s) == (10, 20, 50)
    assert (gap.startup_s, gap.tokens_per_unit, gap.tokens_per_s) == (5, 60, 300)
    train = rates.stages["train"]
    assert (train.startup_s, train.item_s) == (7, 3)
    assert train.tokens_per_s == 16_000 / 40 / 2
    assert train.tokens_per_unit == 16_000 / (2 * 2 * 100)
    evaluate = rates.stages["evaluate"]
    assert (evaluate.startup_s, evaluate.tokens_per_unit) == (5, 20)
    assert (evaluate.tokens_per_s, evaluate.item_s) == (72_000 / 45, 6)


def test_planning_the_run_itself_gives_its_time(store: LocalStore, config: RunConfig) -> None:
    found = estimate(config, measure(Run(store)), Prices(), num_problems=100, **ONE_SHARD)
    seconds = {one.stage: one.seconds for one in found.stages}
    assert seconds["rewrite"] == pytest.approx(30)
    assert seconds["gap"] == pytest.approx(15)
    assert seconds["train"] == pytest.approx(50)
    assert seconds["evaluate"] == pytest.approx(41)
    assert found.seconds == pytest.approx(150)


def test_a_larger_run_on_more_and_dearer_workers(store: LocalStore, config: RunConfig) -> None:
    changes = {"rewrite_actors": 8, "gpus_per_actor": 2.0, "train_workers": 4, "gpus_per_train_worker": 1.0}
    larger = config.model_copy(
        update={
            "resources": config.resources.model_copy(update=changes),
            "train": config.train.model_copy(update={"seeds": (0, 1, 2)}),
        }
    )
    prices = Prices(gpu_hour=3, gb_month=0.02)
    found = estimate(larger, measure(Run(store)), prices, num_problems=10_000, **ONE_SHARD)
    rewrite, _, train, evaluate = found.stages
    assert rewrite.seconds == pytest.approx(10 + 10_000 * 20 / (8 * 50))
    assert rewrite.gpu_hours == pytest.approx(rewrite.seconds / 3600 * 16)
    tokens = 6 * 2 * 10_000 * 40
    assert train.tokens == pytest.approx(tokens)
    assert train.seconds == pytest.approx(7 + 5 * 3 + tokens / (4 * 200))
    assert evaluate.load.workers == 7, "one shard of each model: more engines than models would be idle"
    assert (evaluate.load.busy_workers, evaluate.load.rounds) == (7, 1)
    assert found.price == pytest.approx(found.gpu_hours * 3 + found.gigabytes * 0.02)
    assert train.gigabytes > 3 * 2 * 50 / 1e9, "each training has its files"


def test_the_newest_start_counts(store: LocalStore) -> None:
    """A start that found most of the work done says nothing about it: its own commits are what it did."""
    stage(store, "rewrite", 24, 11, term=2)  # in which only the second shard was done
    rewrite = measure(Run(store)).stages["rewrite"]
    assert (rewrite.startup_s, rewrite.tokens_per_s) == (1, 100)


def test_a_run_without_times_is_refused(store: LocalStore) -> None:
    store.delete("history/000001-rewrite.json")
    with pytest.raises(InputError, match=r"problems\.limit=200"):
        measure(Run(store))


def test_a_run_whose_shards_have_no_times_is_refused_by_name(store: LocalStore) -> None:
    for key in list(store.keys("rewrite/commits")):
        body = json.loads(store.read(key))
        del body["summary"]["started_at"], body["checksum"]
        store.put(key, json.dumps(body).encode())
    with pytest.raises(InputError, match=r"no committed shard says .*problems\.limit=200$") as caught:
        measure(Run(store))
    assert str(caught.value).startswith(f"{store.url}: ")
    assert "\n" not in str(caught.value)


def test_the_plan_shows_its_arithmetic_and_what_it_rests_on(store: LocalStore, config: RunConfig) -> None:
    console = Console(file=StringIO(), width=200)
    other = load_config(QUICKSTART, [*SMALL, "rewrite.num_accepted=2", "problems.limit=200"])
    found = show_plan(other, Run(store), Prices(cpu_hour=0.05), console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "200 problems × 20.0 tokens = 4,000 tokens" in text
    assert "10.0 s to start + 4,000 / (2 × 50 tokens/s) = 50 s" in text
    assert "mind: rewrite differs" in text
    assert f"= {found.price:,.2f}" in text
