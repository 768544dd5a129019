"""The gap stage with Ray Data: kept texts and demonstrations scored under the target, shard by shard."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy

from drsft.config import RunConfig
from drsft.gap.scoring import score_rows
from drsft.gap.summary import GapSummary, ScoredRow, summarise
from drsft.planning import Plan
from drsft.policy.prompts import model_location
from drsft.records import Source
from drsft.shards import ShardSet
from drsft.stages import rewriting
from drsft.stages.actors import actor_resources, raise_cause
from drsft.stages.progress import Ticker
from drsft.storage import Store, open_store
from drsft.train.model import load_model

__all__ = ["PREFIX", "SUMMARY_KEY", "is_complete", "run_scoring"]

PREFIX = "gap"
STAGE = "gap"
SUMMARY_KEY = f"{PREFIX}/summary.json"

_NUMBERS = pa.list_(pa.float32())
SCORE_SCHEMA = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("kept_logprobs", _NUMBERS, nullable=False),  # nats, under the target, plain prompt
        pa.field("kept_entropy", _NUMBERS, nullable=False),
        pa.field("expert_logprobs", _NUMBERS, nullable=False),
        pa.field("expert_entropy", _NUMBERS, nullable=False),
    ]
)


class ShardScorer:
    def __init__(self, config_json: str, store_url: str, board: Any) -> None:
        config = RunConfig.model_validate_json(config_json)
        store = open_store(store_url)
        self._records = ShardSet(store, rewriting.PREFIX)
        self._scores = ShardSet(store, PREFIX)
        self._model = load_model(model_location(config.target.model)).eval()
        self._ticker = Ticker(board, STAGE)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for shard in map(str, batch["shard"]):
            table = self._records.table(shard)
            self._scores.commit(shard, self._score(table))
            self._ticker.add(done=table.num_rows)
        self._ticker.flush()
        return batch

    def _score(self, table: pa.Table) -> pa.Table:
        table = table.filter(pc.field("source") != Source.DROPPED.value)
        prompts = table["prompt_ids"].to_pylist()
        kept = table["completion_ids"].to_pylist()
        expert = table["expert_completion_ids"].to_pylist()
        scores = score_rows(self._model, list(zip(prompts + prompts, kept + expert, strict=True)))
        kept_scores, expert_scores = scores[: len(kept)], scores[len(kept) :]
        columns = {
            "problem_id": table["problem_id"],
            "source": table["source"],
            "kept_logprobs": [one.logprobs_T for one in kept_scores],
            "kept_entropy": [one.entropy_T for one in kept_scores],
            "expert_logprobs": [one.logprobs_T for one in expert_scores],
            "expert_entropy": [one.entropy_T for one in expert_scores],
        }
        return pa.table(columns, schema=SCORE_SCHEMA)


def is_complete(store: Store, plan: Plan) -> bool:
    return store.exists(SUMMARY_KEY) and ShardSet(store, PREFIX).done() >= plan.shards.keys()


def run_scoring(config: RunConfig, store_url: str, plan: Plan, board: Any) -> None:
    """Scores the shards that are not committed yet, then writes the summary."""
    store = open_store(store_url)
    done = ShardSet(store, PREFIX).done()
    missing = [shard for shard in plan.shards if shard not in done]
    num_done = sum(plan.shards[shard] for shard in plan.shards if shard in done)
    ray.get(board.begin.remote(STAGE, total=plan.num_problems, done_before=num_done))
    if missing:
        rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
        scored = rows.map_batches(
            ShardScorer,
            fn_constructor_args=(config.model_dump_json(), store_url, board),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(config.resources.rewrite_actors, len(missing))),
            **actor_resources(config.resources),
        )
        with raise_cause("the gap report"):
            scored.materialize()
    store.put(SUMMARY_KEY, _summarise(config, ShardSet(store, PREFIX)).to_json().encode())


def _summarise(config: RunConfig, scores: ShardSet) -> GapSummary:
    kept, demonstrations = [], []
    for table in scores.tables():
        for row in table.to_pylist():
            kept.append(_scored_row(row, Source(row["source"]), "kept"))
            demonstrations.append(_scored_row(row, Source.EXPERT, "expert"))
    return summarise(model=config.target.model, kept=kept, demonstrations=demonstrations)


def _scored_row(row: dict[str, Any], source: Source, text: str) -> ScoredRow:
    return ScoredRow(
        problem_id=row["problem_id"],
        source=source,
        logprobs_T=np.asarray(row[f"{text}_logprobs"], dtype=np.float64),
        entropy_T=np.asarray(row[f"{text}_entropy"], dtype=np.float64),
    )
