"""Decides between two rounds, shard by shard, which records of the first the second takes over unchanged."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from drsft.config import RunConfig
from drsft.records import Record, Source
from drsft.run.plan import Plan
from drsft.run.rounds import Round, survey_finding
from drsft.run.run import Run
from drsft.run.tables import records_from_table
from drsft.stages.actors import ScoringGuard, actor_resources, raise_given_up, run_to_end, scoring_model
from drsft.stages.progress_board import ProgressReporter, stop_if_draining
from drsft.storage import open_store

if TYPE_CHECKING:
    from drsft.gap.scoring import CausalLM  # which loads torch

__all__ = ["run_survey"]

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
    """Decides for each record of a shard whether the next round carries it over or rewrites it again.

    It scores the target's own texts with the previous target and with the new one.
    """

    def __init__(
        self, config_json: str, before_json: str, store_url: str, before_url: str, board: Any
    ) -> None:
        self._guard = ScoringGuard(board, STAGE)
        config = RunConfig.model_validate_json(config_json)
        self._records = Run(open_store(before_url)).records
        self._survey = Run(open_store(store_url)).survey
        self._tolerance = config.rounds.tolerance
        with self._guard.reading():
            self._before = scoring_model(RunConfig.model_validate_json(before_json).target)
            self._now = scoring_model(config.target)
        self._progress = ProgressReporter(board, STAGE)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for shard in map(str, batch["shard"]):
            if self._progress.is_draining():
                return batch
            if self._survey.find(shard) is not None:
                continue  # another actor did it while this one was suspended
            with self._guard.work(shard) as may_begin:
                if may_begin:
                    self._survey_shard(shard)
        self._progress.flush()
        return batch

    def _survey_shard(self, shard: str) -> None:
        rows = list(self._rows(records_from_table(self._records.table(shard))))
        summary = Counter(row["standing"] for row in rows)
        self._survey.commit(shard, pa.Table.from_pylist(rows, schema=SURVEY_SCHEMA), dict(summary))
        self._progress.count("shard_commits", stage=STAGE)
        self._progress.add(done=len(rows))

    def _rows(self, records: list[Record]) -> Iterator[dict[str, Any]]:
        own = [record for record in records if record.source is Source.OWN]
        before, now = (_mean_logprobs(model, own) for model in (self._before, self._now))
        for record in records:
            name = record.problem.problem_id
            logprobs = {"before": before.get(name), "now": now.get(name)}
            finding = survey_finding(record.source, **logprobs, tolerance=self._tolerance)
            yield {
                "problem_id": name,
                "standing": finding.value,
                **{f"logprob_{when}": logprob for when, logprob in logprobs.items()},
            }


def _mean_logprobs(model: "CausalLM", records: Sequence[Record]) -> dict[str, float]:
    """Returns the mean log-prob of each kept text with the plain prompt, by problem id."""
    from drsft.gap.scoring import score_rows

    scores = score_rows(model, [(record.prompt_ids, record.completion_ids) for record in records])
    pairs = zip(records, scores, strict=True)
    return {record.problem.problem_id: float(score.logprobs_T.mean()) for record, score in pairs}


def run_survey(one: Round, plan: Plan, board: Any) -> None:
    """Surveys each shard of a later round that is not surveyed yet: decides for each record of the previous
    round whether the later round takes it over unchanged or rewrites the problem again.

    The previous round must be trained.
    """
    assert one.before is not None
    config, before = one.run.config, one.before.run
    done = one.run.survey.done()
    missing = [shard for shard in plan.shards if shard not in done]
    if not missing:
        return
    num_done = sum(plan.shards[shard] for shard in plan.shards if shard in done)
    ray.get(board.begin.remote(STAGE, total=plan.num_problems, done_before=num_done))
    rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
    surveyed = rows.map_batches(
        ShardSurveyor,
        fn_constructor_args=(
            config.model_dump_json(),
            before.config.model_dump_json(),
            one.run.url,
            before.url,
            board,
        ),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(config.resources.engine_share.num_workers, len(missing))),
        **actor_resources(config.resources),
    )
    run_to_end(surveyed, "the survey")
    stop_if_draining(board)
    raise_given_up(board, STAGE)
