"""Runs the gap stage with Ray Data: texts scored under a model with the plain prompt, shard by shard."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy

from drsft.config import RunConfig
from drsft.errors import InputError, StageError
from drsft.gap.report import GapReport, gap_report, heat_maps_of_shown, rows_to_show
from drsft.gap.scored_texts import row_columns, scores_of, texts_from_table, texts_of_records
from drsft.policy.prompts import model_location
from drsft.policy.turn.tokenizer_files import load_tokenizer
from drsft.run.layout import GAP, RECORDS, GapFolder
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.shards import ShardSet
from drsft.run.summary import Work, WorkSummary
from drsft.stages.actors import ScoringGuard, actor_resources, raise_given_up, run_to_end
from drsft.stages.progress_board import ProgressReporter, stop_if_draining
from drsft.stages.turn import prompter_of
from drsft.storage import Store, open_store

__all__ = [
    "Scoring",
    "is_complete",
    "run_gap",
    "run_scores",
    "score",
]

STAGE = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Defines which texts are scored under which model, and where scores and report are stored."""

    model: str  # a folder, a hub name or `embedded`
    texts: str  # prefix of the texts' shards: the run's records, or tables of gap.scored_texts.TEXT_SCHEMA
    folder: GapFolder
    number: int = 1  # of the round whose target the model is, where the texts are records

    def scores(self, store: Store) -> ShardSet:
        return scores_of(store, self.folder)


class ShardScorer:
    """Scores shards with one copy of the model: in fp32 on the CPU, in the target's dtype on a GPU."""

    def __init__(self, config_json: str, store_url: str, scoring: Scoring, board: Any) -> None:
        from drsft.train.model import load_for_scoring  # loads torch, which the driver does without

        self._guard = ScoringGuard(board, STAGE)
        config = RunConfig.model_validate_json(config_json)
        store = open_store(store_url)
        self._is_of_records, self._number = scoring.texts == RECORDS, scoring.number
        self._texts = ShardSet(store, scoring.texts)
        self._scores = scoring.scores(store)
        with self._guard.reading():
            self._model = load_for_scoring(scoring.model, config.target.dtype)
        self._prompter = prompter_of(scoring.model, config, store)
        self._progress = ProgressReporter(board, STAGE)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for shard in map(str, batch["shard"]):
            if self._progress.is_draining():
                return batch
            if self._scores.find(shard) is not None:
                continue  # another actor did it while this one was suspended
            with self._guard.work(shard) as may_begin:
                if may_begin:
                    self._score_shard(shard)
        self._progress.flush()
        return batch

    def _score_shard(self, shard: str) -> None:
        table, started_at = self._texts.table(shard), time.time()
        scores = self._score(table)
        num_tokens = sum(scores["num_tokens"].to_pylist())
        summary = WorkSummary(work=Work.since(started_at), num_units=table.num_rows, num_tokens=num_tokens)
        self._scores.commit(shard, scores, summary.to_json())
        self._progress.count("shard_commits", stage=STAGE)
        self._progress.add(done=table.num_rows)

    def _score(self, table: pa.Table) -> pa.Table:
        from drsft.gap.text_scoring import score_texts

        if self._is_of_records:
            texts = list(texts_of_records(table, number=self._number))
        else:
            texts = texts_from_table(table)
        return score_texts(self._model, texts, self._prompter)


def _of_run(config: RunConfig, number: int = 1) -> Scoring:
    return Scoring(model=config.target.model, texts=RECORDS, folder=GAP, number=number)


def is_complete(run: Run, plan: Plan) -> bool:
    return run.store.exists(GAP.report) and scores_of(run.store).done() >= plan.shards.keys()


def run_scores(store: Store, config: RunConfig) -> pa.Table:
    """Returns the scores of all texts of the run as a table with one row per text (`row_columns`).

    Raises StageError if the gap stage has not written its report yet.
    """
    if not store.exists(GAP.report):
        raise StageError(
            "train.filter needs the gap report, which this run does not have yet; run drsft gap first"
        )
    return pa.concat_tables(_row_tables(_of_run(config).scores(store)))


def run_gap(config: RunConfig, store_url: str, plan: Plan, board: Any, *, number: int = 1) -> None:
    """Scores the records of round `number` under its target, and stores the scores and the gap report.

    Raises InputError if a shard is not rewritten yet.
    """
    missing = plan.shards.keys() - ShardSet(open_store(store_url), RECORDS).done()
    if missing:
        raise InputError(
            f"{len(missing)} of {len(plan.shards)} shards are not rewritten; run drsft rewrite first, or "
            "score a file as it is: drsft gap CONFIG --data FILE"
        )
    score(config, store_url, _of_run(config, number), plan.shards, board)


def score(
    config: RunConfig, store_url: str, scoring: Scoring, shards: Mapping[str, int], board: Any
) -> GapReport:
    """Scores the shards (name -> rows) that are not committed yet, then writes the report and returns it."""
    store = open_store(store_url)
    done = scoring.scores(store).done()
    missing = [shard for shard in shards if shard not in done]
    num_done = sum(shards[shard] for shard in shards if shard in done)
    ray.get(board.begin.remote(STAGE, total=sum(shards.values()), done_before=num_done))
    if missing:
        rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
        scored = rows.map_batches(
            ShardScorer,
            fn_constructor_args=(config.model_dump_json(), store_url, scoring, board),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(config.resources.engine_share.num_workers, len(missing))),
            **actor_resources(config.resources),
        )
        run_to_end(scored, "the gap report")
        stop_if_draining(board)
        raise_given_up(board, STAGE)
    report = _report(config, scoring, scoring.scores(store))
    store.put(scoring.folder.report, report.to_json().encode())
    return report


def _report(config: RunConfig, scoring: Scoring, scores: ShardSet) -> GapReport:
    """Returns the report, built from every shard's row columns and the tokens of the rows that are shown."""
    shards, tables = sorted(scores.done()), _row_tables(scores)
    rows = pa.concat_tables(tables)
    shown = rows_to_show(rows)
    wanted = pa.array([row.row_id for row in shown])
    tokens: list[dict[str, Any]] = []
    for shard, table in zip(shards, tables, strict=True):
        if pc.any(pc.is_in(table["row_id"], wanted)).as_py():
            tokens += scores.table(shard).filter(pc.is_in(pc.field("row_id"), wanted)).to_pylist()
    decode = load_tokenizer(model_location(scoring.model)).decode
    return gap_report(model=scoring.model, rows=rows, heat_maps=heat_maps_of_shown(shown, tokens, decode))


def _row_tables(scores: ShardSet) -> list[pa.Table]:
    """Returns the tables in order of the shards' names."""
    return [row_columns(scores.table(shard)) for shard in sorted(scores.done())]
