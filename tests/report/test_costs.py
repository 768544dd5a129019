"""What a run took: overlapping work counts once, money follows GPU hours, and the unknown stays unknown."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from drsft.config import RunConfig
from drsft.gap.scored_texts import scores_of
from drsft.report.cascade_counts import Cascade
from drsft.report.costs import prices_of, rewriting_seconds, stage_costs, time_at_work
from drsft.report.data import StageCost
from drsft.report.findings import costs as findings
from drsft.report.wording import duration
from drsft.run import layout
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.summary import ShardSummary, Work
from drsft.storage import LocalStore

CONFIG = RunConfig.model_validate(
    {
        "name": "r",
        "problems": {"path": "p.jsonl"},
        "target": {"model": "m"},
        "train": {"seeds": [0], "arms": [{"name": "sft", "data": "expert", "objective": {"kind": "sft"}}]},
        "resources": {"gpus_per_actor": 2, "gpus_per_train_worker": 1},
        "report": {"price_per_gpu_hour": 3.0, "currency": "EUR"},
    }
)


def _span(worker: str, started_at: float, ended_at: float) -> Work:
    return Work(worker=worker, started_at=started_at, ended_at=ended_at)


def _worked_slowly(spans: list[Work]) -> dict[str, float]:
    """Second by second."""
    seconds = {
        (str(span.worker), at) for span in spans for at in range(int(span.started_at), int(span.ended_at))
    }
    return {str(span.worker): float(sum(worker == span.worker for worker, _ in seconds)) for span in spans}


@pytest.mark.parametrize(
    "spans",
    [
        [_span("a", 0, 5), _span("a", 3, 8), _span("a", 20, 22)],
        [_span("a", 0, 10), _span("a", 2, 3), _span("b", 2, 3), _span("a", 9, 11)],
        [_span("a", 5, 9), _span("b", 0, 4), _span("a", 0, 5), _span("a", 1, 2)],
        [_span("a", 4, 4)],
    ],
)
def test_time_at_work_counts_no_second_twice(spans: list[Work]) -> None:
    assert time_at_work(spans) == _worked_slowly(spans)


def _summary(worker: str, started_at: float, ended_at: float, **tokens: int) -> dict[str, object]:
    return {"actor": worker, "started_at": started_at, "ended_at": ended_at, "tokens": tokens}


def test_rewriting_time_is_shared_out_by_the_targets_tokens() -> None:
    summaries = [
        _summary("a", 0, 60, self_align=300, guided=100, teacher=10**6),
        _summary("b", 0, 40, self_align=0, guided=100),
    ]
    assert rewriting_seconds([ShardSummary.from_json(one) for one in summaries]) == {
        "self_align": 60.0,
        "guided": 40.0,
    }
    assert rewriting_seconds([]) == {}
    old = {"started_at": 0, "ended_at": 60, "tokens": {"guided": 5}}
    assert rewriting_seconds([ShardSummary.from_json(old)]) == {}, "the first versions did not say who worked"


def test_costs_of_a_run_are_read_from_its_commits(tmp_path: Path) -> None:
    store, nothing = LocalStore(tmp_path), pa.table({"x": [1]})
    rewritten = ShardSet(store, "rewrite")
    rewritten.commit(
        "00000", nothing, _summary("a", 0, 1800, self_align=900, guided=100) | {"stopped_tokens": 7}
    )
    rewritten.commit("00001", nothing, _summary("b", 900, 2700, self_align=1000, teacher=50))
    scores_of(store).commit("00000", nothing)
    done = {"wall_s": 360.0, "num_workers": 2, "loss_tokens": 5000}
    store.put(layout.training(CONFIG.train, CONFIG.train.arms[0], 0).done, json.dumps(done).encode())
    rewrite, gap, train = stage_costs(Run(store, CONFIG))
    assert rewrite == StageCost(name="rewrite", num_tokens=2007, wall_s=2700, worker_s=3600, gpu_hours=2.0)
    assert gap == StageCost(name="gap"), "commits of the first versions do not tell"
    assert train == StageCost(name="train", num_tokens=5000, wall_s=360, worker_s=720, gpu_hours=0.2)
    prices = prices_of(CONFIG)
    assert (prices.of(rewrite), prices.of(gap)) == (6.0, None)
    finding = findings.cost_finding((rewrite, gap, train), prices, Cascade(phases=(), sources={"own": 100}))
    assert finding is not None
    assert finding.sentence.replace("\u202f", " ") == (
        "Rewriting took 83 % of 2.20 GPU hours; a kept row took 20 sampled tokens and 0.06000 EUR."
    )


def test_a_run_without_gpu_has_no_money() -> None:
    cost = StageCost(name="gap", num_tokens=10, wall_s=4, worker_s=4, gpu_hours=0.0)
    finding = findings.cost_finding((cost,), prices_of(CONFIG), None)
    assert finding is not None
    assert finding.sentence.replace("\u202f", " ") == "Scoring took 100 % of 4.0 s of work."
    assert findings.cost_finding((StageCost(name="gap"),), prices_of(CONFIG), None) is None


def test_the_price_is_no_part_of_the_run() -> None:
    other = CONFIG.model_copy(update={"report": CONFIG.report.model_copy(update={"price_per_gpu_hour": 9.0})})
    assert other.run_id == CONFIG.run_id


def test_durations_are_written_for_people() -> None:
    found = [duration(seconds) for seconds in (0.04, 9.94, 42, 99.6, 3600, 7200)]
    assert found == ["0.0 s", "9.9 s", "42 s", "1.7 min", "60.0 min", "2.0 h"]
