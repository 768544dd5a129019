"""The commits' summaries: what is written is read, of every version, and shards add up."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from drsft.errors import InputError, StorageError
from drsft.records import Outcome, Phase, Source
from drsft.run.run import Run
from drsft.run.summary import JudgedAs, ShardCounts, ShardSummary, Work, WorkSummary, span_s
from drsft.storage import LocalStore

WHOLE: dict[str, Any] = {
    "sources": {"own": 67, "expert": 12, "rewritten": 21},
    "solved": {"self_align": 67, "guided": 21},
    "accepted": {"self_align": 67, "guided": 23},
    "refusals": {"mentions its guide: reference": 2},
    "checks": {"steps_read": 47, "steps_failed": 1, "contradicting": 3},
    "samples": {"self_align": 400, "guided": 132, "teacher": 9},
    "problems": {"self_align": 100, "guided": 33, "teacher": 9},
    "tokens": {"self_align": 10345, "guided": 4573, "teacher": 700},
    "verdicts": {"self_align/wrong/1/2 is not 1/3": 189, "guided/correct/identical": 47},
    "started_at": 1795790538.5,
    "ended_at": 1795790545.25,
    "actor": "vm/8404",
    "cpu_s": 16.0,
    "peak_rss_mib": 1508.5,
    "provenance": {"version": "0.1.0", "vllm_version": "0.32.0"},
    "stopped_tokens": 11,
    "pairs": {"num_pairs": 40, "num_redone": 3},
    "kept": {"own": 127, "expert": 12, "rewritten": 21},
    "carried": {"problems": 60, "tokens": 900},
}
FIRST_VERSION = {name: WHOLE[name] for name in ("sources", "samples", "problems", "tokens", "verdicts")}


def test_what_a_commit_says_is_what_was_written_to_it() -> None:
    summary = ShardSummary.from_json(WHOLE)
    assert json.loads(json.dumps(summary.to_json())) == WHOLE
    assert summary.work == Work(worker="vm/8404", started_at=1795790538.5, ended_at=1795790545.25)
    assert summary.counts.verdicts == {
        JudgedAs(Phase.SELF_ALIGN, Outcome.WRONG, "1/2 is not 1/3"): 189,
        JudgedAs(Phase.GUIDED, Outcome.CORRECT, "identical"): 47,
    }
    assert summary.counts.num_target_tokens == 10345 + 4573 + 11, "a teacher's tokens are not the target's"


def test_commits_of_the_first_version_say_what_was_true_then() -> None:
    summary = ShardSummary.from_json(FIRST_VERSION)
    assert summary.counts.kept == summary.counts.sources, "there were no rounds: what was rewritten was kept"
    assert summary.work is None
    assert summary.counts.num_carried_over == summary.counts.num_stopped_tokens == 0
    without_worker = ShardSummary.from_json({**FIRST_VERSION, "started_at": 1, "ended_at": 2})
    assert without_worker.work == Work(worker=None, started_at=1, ended_at=2)
    newer = ShardSummary.from_json({**WHOLE, "invented_later": {"a": 1}})
    assert newer == ShardSummary.from_json(WHOLE)


@pytest.mark.parametrize(
    "damage",
    [
        {"sources": {"own": "many"}},
        {"sources": {"nowhere": 1}},
        {"verdicts": {"self_align": 1}},
        {"verdicts": {"self_align/right/x": 1}},
        {"checks": 3},
        {"started_at": "noon"},
    ],
)
def test_a_damaged_commit_is_named(tmp_path: Path, damage: dict[str, Any]) -> None:
    run = Run(LocalStore(tmp_path))
    run.records.commit("00007", pa.table({"a": [1]}), WHOLE | damage)
    with pytest.raises(StorageError, match=r"rewrite/commits/00007\.json is damaged"):
        run.summaries()


def test_shards_add_up_field_by_field() -> None:
    shards = [ShardSummary.from_json(one).counts for one in (WHOLE, FIRST_VERSION, WHOLE)]
    total = ShardCounts.total(shards)
    for name in ShardCounts.__dataclass_fields__:
        values = [getattr(one, name) for one in shards]
        if isinstance(values[0], Counter):
            keys = {key for value in values for key in value}
            assert getattr(total, name) == {key: sum(value[key] for value in values) for key in keys}, name
        else:
            assert getattr(total, name) == sum(values), name
    assert total.kept[Source.OWN] == 127 + 67 + 127
    assert ShardCounts.total([]) == ShardCounts()


@pytest.mark.parametrize(
    "stored",
    [
        {"actor": "vm/1", "started_at": 1.0, "ended_at": 2.0, "num_units": 100, "num_tokens": 10196},
        {
            "verifier": "0.1.0-4460e185",
            "provenance": {"target_model": "embedded"},
            "actor": "vm/1",
            "started_at": 1.0,
            "ended_at": 2.0,
            "num_units": 2400,
            "num_tokens": 63447,
        },
        {"verifier": "v2"},
        {},
    ],
)
def test_commits_of_the_gap_and_of_evaluations_are_read_as_they_were_written(stored: dict[str, Any]) -> None:
    assert WorkSummary.from_json(stored).to_json() == stored


def test_a_span_without_any_time_is_refused() -> None:
    first, second = (Work(worker=None, started_at=at, ended_at=at + 2) for at in (10.0, 15.0))
    assert span_s([second, None, first]) == 7
    for none in ([], [None]):
        with pytest.raises(InputError, match="no committed shard of the run says when"):
            span_s(none)
