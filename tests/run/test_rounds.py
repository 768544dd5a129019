"""Rounds without Ray: what stands, what is kept, how rounds are named, what a shard still has to do."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.errors import ConfigError
from drsft.records import Source
from drsft.rewrite.cascade import rewrite_one
from drsft.rewrite.shard import ShardRewriter
from drsft.rewrite.shard_task import first_round_task, later_round_task, num_problems_to_rewrite
from drsft.run import layout
from drsft.run.rounds import SurveyFinding, better_of, rounds_of, survey_finding
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.tables import problems_to_table, records_from_table, records_to_table
from drsft.storage import LocalStore, table_bytes
from tests.rewrite.test_cascade import PROBLEM, TextVerifier, answering, recipe
from tests.run.test_records_documented import record

QUICKSTART = Path(__file__).parents[2] / "jobs/configs/quickstart.yaml"


@pytest.mark.parametrize(
    ("source", "before", "now", "standing"),
    [
        (Source.OWN, -0.5, -0.4, SurveyFinding.CARRIED_OVER),
        (Source.OWN, -0.5, -0.54, SurveyFinding.CARRIED_OVER),
        (Source.OWN, -0.5, -0.56, SurveyFinding.GAP_GREW),
        (Source.REWRITTEN, -0.5, -0.1, SurveyFinding.NOT_SOLVED_ALONE),
        (Source.TEACHER, None, None, SurveyFinding.NOT_SOLVED_ALONE),
        (Source.EXPERT, -0.5, -0.1, SurveyFinding.NOT_SOLVED_ALONE),
        (Source.DROPPED, None, None, SurveyFinding.NOT_SOLVED_ALONE),
    ],
)
def test_own_text_stands_unless_it_grew_less_likely(
    source: Source, before: float | None, now: float | None, standing: SurveyFinding
) -> None:
    assert survey_finding(source, before=before, now=now, tolerance=0.05) is standing


def test_falling_back_never_replaces_a_verified_text() -> None:
    solved, fell_back = record(Source.OWN), record(Source.EXPERT)
    rewritten = replace(solved, source=Source.REWRITTEN)
    late = replace(fell_back, attempts=solved.attempts, round=2)
    kept = better_of(late, rewritten)
    assert (kept.source, kept.text, kept.round) == (Source.REWRITTEN, rewritten.text, 1)
    assert kept.attempts == (*rewritten.attempts, *late.attempts), "no attempt is forgotten"
    assert better_of(solved, rewritten) is solved
    assert better_of(late, fell_back) is late


def config(**changes: Any) -> RunConfig:
    arms = [{"name": "sft", "data": "expert"}, {"name": "dr+sft"}, {"name": "dr+dft"}]
    tree = {
        "name": "t",
        "problems": {"path": "p.jsonl"},
        "target": {"model": "embedded"},
        "train": {"arms": arms, "seeds": [3, 4]},
        **changes,
    }
    return RunConfig.model_validate(tree)


def run_at(url: str, config: RunConfig) -> Run:
    return Run(LocalStore(Path(url)), config)


def test_each_round_rewrites_with_what_the_one_before_trained() -> None:
    first, second, third = rounds_of(run_at("/runs/t", config(rounds=3)))
    assert (first.prefix, first.run.config.target.model) == ("", "embedded")
    assert second.run.config.target.model.startswith("/runs/t/train/dr+dft-")
    assert second.run.config.target.model.endswith("/seed-3/export")
    assert third.run.config.target.model.startswith(f"/runs/t/{second.prefix}/train/dr+dft-")
    for later in (second, third):
        trained = f"{later.before.run.url}/{later.target_training.done}"
        assert trained == later.run.config.target.model.replace("export", "done.json")
        assert [arm.name for arm in later.run.config.train.arms] == ["dr+dft"]
        assert later.run.config.train.initial_model == "embedded"
        assert not later.run.config.evaluate.base
        assert RunConfig.model_validate_json(later.run.config.model_dump_json()) == later.run.config


def prefixes(**rounds: Any) -> list[str]:
    return [one.prefix for one in rounds_of(run_at("/runs/t", config(rounds={"count": 3, **rounds})))]


def test_a_rounds_name_says_what_it_depends_on_and_no_more() -> None:
    plain = prefixes()
    assert prefixes(count=2) == plain[:2], "more rounds join a run"
    assert [one.prefix for one in rounds_of(run_at("/elsewhere/t", config(rounds=3)))] == plain
    assert config(rounds=3).run_id == config().run_id
    for changed in ({"tolerance": 0.1}, {"start_from": "previous"}, {"arm": "dr+sft"}):
        other = prefixes(**changed)
        assert other[0] == plain[0]
        assert not set(other[1:]) & set(plain[1:]), changed
    assert prefixes(arm="dr+dft") == plain, "the default, by its name"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("rounds=0",), "rounds"),
        (("rounds=two",), "rounds: expected the number of rounds, or keys such as count and arm, got 'two'"),
        (("rounds.arm=sft",), "rounds.arm 'sft' is not an arm with data: rewritten (dr+dft, dr+sft)"),
        (("rounds=2", "train.arms=[{name: sft, data: expert}]"), "rounds need an arm"),
        (("rounds.start_from=middle",), "rounds.start_from"),
    ],
)
def test_mistakes_are_one_line(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(QUICKSTART, overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shard_of_a_later_round_is_what_was_carried_and_what_is_done_again(tmp_path: Path) -> None:
    before, store = LocalStore(tmp_path), LocalStore(tmp_path / "round-2")
    own, rewritten, expert = (
        record(),
        replace(record(Source.OWN), source=Source.REWRITTEN),
        record(Source.EXPERT),
    )
    rewritten = replace(rewritten, problem=replace(rewritten.problem, problem_id="rewritten"))
    records = [own, rewritten, expert]
    before.put("problems/shards/0.parquet", table_bytes(problems_to_table([one.problem for one in records])))
    ShardSet(before, layout.RECORDS).commit("0", records_to_table(records))
    rows = [
        {"problem_id": one.problem.problem_id, "standing": "carried" if one is own else "not solved alone"}
        for one in records
    ]
    ShardSet(store, layout.SURVEY).commit("0", pa.Table.from_pylist(rows))

    assert len(first_round_task(before)("0").problems) == 3
    task = later_round_task(store, before)("0")
    assert {problem.problem_id for problem in task.problems} == {"rewritten", "expert"}
    solved = replace(own, problem=expert.problem)
    fell_back = replace(expert, problem=rewritten.problem)
    merged = {one.problem.problem_id: one for one in task.all_records([solved, fell_back], 2)}
    assert merged.keys() == {one.problem.problem_id for one in records}
    assert merged["own"] == own
    assert (merged["expert"].source, merged["expert"].round) == (Source.OWN, 2)
    assert (merged["rewritten"].source, merged["rewritten"].round) == (Source.REWRITTEN, 1)
    rounds = [one.rollout.round for one in merged["rewritten"].attempts]
    assert rounds == [1] * len(rewritten.attempts) + [2] * len(fell_back.attempts)
    assert {one.rollout.round for one in merged["expert"].attempts} == {2}
    assert records_from_table(records_to_table([merged["rewritten"]])) == [merged["rewritten"]]


def test_a_later_round_samples_only_what_needs_it_and_counts_what_it_saved(tmp_path: Path) -> None:
    before, store = LocalStore(tmp_path), LocalStore(tmp_path / "round-2")
    stage = {"num_samples": 2, "wave_size": 2, "max_tokens": 64}
    own = asyncio.run(rewrite_one(PROBLEM, answering("right", "x"), TextVerifier(), recipe(self_align=stage)))
    failed = replace(record(Source.EXPERT), problem=replace(PROBLEM, problem_id="p2"))
    ShardSet(before, layout.RECORDS).commit("0", records_to_table([own, failed]))
    rows = [
        {"problem_id": "p1", "standing": SurveyFinding.CARRIED_OVER.value},
        {"problem_id": "p2", "standing": SurveyFinding.NOT_SOLVED_ALONE.value},
    ]
    ShardSet(store, layout.SURVEY).commit(
        "0", pa.Table.from_pylist(rows), {"carried": 1, "not solved alone": 1}
    )
    assert num_problems_to_rewrite(Run(store)) == {"0": 1}

    policy = answering("wrong", "right, guided")
    rewriter = ShardRewriter(store, recipe(), policy, TextVerifier(), number=2, before=before)
    commit = asyncio.run(rewriter.rewrite("0"))
    assert commit.summary["sources"] == {"rewritten": 1}
    assert commit.summary["kept"] == {"own": 1, "rewritten": 1}
    assert commit.summary["carried"] == {"problems": 1, "tokens": own.num_sampled_tokens}
    assert policy.num_requests == 3, "two waves alone and one guided, for one problem of two"
    found = {
        one.problem.problem_id: one for one in records_from_table(ShardSet(store, layout.RECORDS).table("0"))
    }
    assert found["p1"] == own
    assert (found["p2"].source, found["p2"].round) == (Source.REWRITTEN, 2)
