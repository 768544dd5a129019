"""Between rounds: which records of the round before still stand under the new target, shard by shard."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from drsft.carrying import SURVEY
from drsft.config import RunConfig
from drsft.gap.scoring import score_rows
from drsft.planning import Plan
from drsft.policy.prompts import model_location
from drsft.records import Record, Source
from drsft.rewrite.rounds import standing_of
from drsft.runs import REWRITTEN
from drsft.shards import ShardSet
from drsft.stages import scoring
from drsft.stages.actors import actor_resources, raise_cause
from drsft.stages.progress import Ticker
from drsft.storage import Store, open_store
from drsft.tables import records_from_table
from drsft.train.model import load_model

__all__ = ["counts", "run_survey"]

STAGE = "survey"
SURVEY_SCHEMA = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("standing", pa.string(), nullable=False),
        pa.field("logprob_before", pa.float64()),  # nats per token of the kept text, plain prompt; own text
        pa.field("logprob_now", pa.float64()),
    ]
)


class ShardSurveyor:
    def __init__(self, config_json: str, store_url: str, before_url: str, board: Any) -> None:
        config = RunConfig.model_validate_json(config_json)
        self._before = open_store(before_url)
        self._survey = ShardSet(open_store(store_url), SURVEY)
        self._tolerance = config.rounds.tolerance
        self._model = load_model(model_location(config.target.model)).eval()
        self._ticker = Ticker(board, STAGE)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for shard in map(str, batch["shard"]):
            records = records_from_table(ShardSet(self._before, REWRITTEN).table(shard))
            rows = list(self._rows(records, _kept_logprobs(self._before, shard)))
            summary = Counter(row["standing"] for row in rows)
            self._survey.commit(shard, pa.Table.from_pylist(rows, schema=SURVEY_SCHEMA), dict(summary))
            self._ticker.add(done=len(rows))
        self._ticker.flush()
        return batch

    def _rows(self, records: list[Record], before: dict[str, float]) -> Iterator[dict[str, Any]]:
        own = [record for record in records if record.source is Source.OWN]
        scores = score_rows(self._model, [(record.prompt_ids, record.completion_ids) for record in own])
        now = {
            record.problem.problem_id: float(score.logprobs_T.mean())
            for record, score in zip(own, scores, strict=True)
        }
        for record in records:
            name = record.problem.problem_id
            is_own = record.source is Source.OWN
            row = {"logprob_before": before[name] if is_own else None, "logprob_now": now.get(name)}
            standing = standing_of(
                record.source,
                before=row["logprob_before"],
                now=row["logprob_now"],
                tolerance=self._tolerance,
            )
            yield {"problem_id": name, "standing": standing.value, **row}


def run_survey(config: RunConfig, store_url: str, before_url: str, plan: Plan, board: Any) -> None:
    """Surveys the shards that are not committed yet; the round before must have its gap report."""
    done = ShardSet(open_store(store_url), SURVEY).done()
    missing = [shard for shard in plan.shards if shard not in done]
    if not missing:
        return
    num_done = sum(plan.shards[shard] for shard in plan.shards if shard in done)
    ray.get(board.begin.remote(STAGE, total=plan.num_problems, done_before=num_done))
    rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
    surveyed = rows.map_batches(
        ShardSurveyor,
        fn_constructor_args=(config.model_dump_json(), store_url, before_url, board),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(config.resources.rewrite_actors, len(missing))),
        **actor_resources(config.resources),
    )
    with raise_cause("the survey"):
        surveyed.materialize()


def counts(store: Store) -> Counter[str]:
    """Problems by standing, over all shards that are surveyed."""
    found: Counter[str] = Counter()
    for commit in ShardSet(store, SURVEY).commits().values():
        found.update(commit.summary)
    return found


def _kept_logprobs(before: Store, shard: str) -> dict[str, float]:
    """Mean log-prob of each kept text under the target of the round before, from its gap report."""
    table = ShardSet(before, scoring.PREFIX).table(shard)
    rows = table.select(["problem_id", "kept_logprobs"]).to_pylist()
    return {row["problem_id"]: float(np.mean(row["kept_logprobs"], dtype=np.float64)) for row in rows}
