"""The gap stage on a local Ray cluster: what an earlier start has scored is not scored again."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import ray

from drsft.config.configfile import load_config
from drsft.errors import StageError
from drsft.gap.report import read_gap_report
from drsft.gap.scored_texts import Role, Text, texts_to_table
from drsft.gap.scoring import score_rows
from drsft.policy.prompts import load_prompter, model_location
from drsft.records import Problem
from drsft.run.layout import GapFolder
from drsft.run.shards import ShardSet
from drsft.stages import gap
from drsft.stages.cluster import connected
from drsft.stages.gap import Scoring, ShardScorer, score
from drsft.stages.progress_board import start_board
from drsft.storage import LocalStore
from drsft.train.model import load_model
from tests.base_model.task import Split, make_problems

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

CONFIG = load_config(
    Path(__file__).parents[2] / "jobs/configs/quickstart.yaml", ("resources.rewrite_actors=1",)
)
SCORING = Scoring(model="embedded", texts="gap/mine/texts", folder=GapFolder("gap/mine"))
SHARD_ROWS = 5
SHARDS = {f"{number:05d}": SHARD_ROWS for number in range(4)}


def written_texts(store: LocalStore) -> list[Text]:
    prompter = load_prompter("embedded", CONFIG.target.prompts)
    texts = [
        Text(
            row_id=f"{number:02d}",
            role=Role.KEPT,
            source="expert",
            prompt_ids=prompter.plain(
                Problem(problem_id="", question=one.question, demonstration="", reference="")
            ),
            completion_ids=prompter.completion(one.demonstration),
        )
        for number, one in enumerate(make_problems(Split.TRAIN, SHARD_ROWS * len(SHARDS)))
    ]
    for number, shard in enumerate(SHARDS):
        part = texts[SHARD_ROWS * number : SHARD_ROWS * (number + 1)]
        ShardSet(store, SCORING.texts).commit(shard, texts_to_table(part))
    return texts


class _DiesOfOne(ShardScorer):
    def _score_shard(self, shard: str) -> None:
        if shard == "00001":
            os._exit(1)
        super()._score_shard(shard)


def test_a_shard_that_kills_its_process_each_time_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    written_texts(store)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    monkeypatch.setattr(gap, "ShardScorer", _DiesOfOne)
    with connected(), pytest.raises(StageError) as told:
        score(CONFIG, store.url, SCORING, SHARDS, start_board())
    assert str(told.value).startswith("gap: 00001 killed the engine 3 times")
    assert SCORING.scores(store).done() == SHARDS.keys() - {"00001"}


def test_a_scoring_that_was_cut_off_goes_on_with_the_missing_shards_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    texts = written_texts(store)
    done, *_, last = SHARDS
    earlier = ShardScorer(CONFIG.model_dump_json(), store.url, SCORING, None)
    earlier({"shard": np.array([done, last])})  # what a killed start had committed
    for shard in (done, last):  # who would score them again could not
        commit = ShardSet(store, SCORING.texts).find(shard)
        assert commit is not None
        store.delete(commit.data_key)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    with connected():
        asked = start_board()
        ray.get(asked.drain.remote())
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            score(CONFIG, store.url, SCORING, SHARDS, asked)
        assert SCORING.scores(store).done() == {done, last}, "who is asked to end begins no shard"
        board = start_board()
        report = score(CONFIG, store.url, SCORING, SHARDS, board)
        (progress,) = ray.get(board.snapshot.remote())
    assert (progress.done_before, progress.total) == (10, 20)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read_gap_report(store, SCORING.folder) == report

    tables = SCORING.scores(store).tables()
    assert [row for table in tables for row in table["row_id"].to_pylist()] == [one.row_id for one in texts]
    model = load_model(model_location("embedded")).eval()
    expected = score_rows(model, [(one.prompt_ids, one.completion_ids) for one in texts])
    found = [phi for table in tables for phi in table["mean_phi"].to_pylist()]
    assert found == pytest.approx([one.phi_T.mean() for one in expected], abs=1e-4)
