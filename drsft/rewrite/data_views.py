"""Selects the rows of each data view of a run's records (drsft.config.DataView defines the views)."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from drsft.config import DataView, Rewrite
from drsft.errors import StageError
from drsft.records import Phase, Record, Source
from drsft.rewrite.selection import choose
from drsft.run.plan import Plan
from drsft.run.run import Run
from drsft.run.tables import records_from_table, records_to_table

__all__ = ["COLUMNS", "hinted_record", "rows_of_view", "view_of"]

COLUMNS = ("problem_id", "source", "prompt_ids", "completion_ids", "expert_completion_ids", "also_kept")


def view_of(records: pa.Table, data: DataView, rewrite: Rewrite, *, run_seed: int) -> pa.Table:
    """Returns the rows of a table of records that belong to the data view, reduced to COLUMNS.

    The text is `expert_completion_ids` for "expert", and `completion_ids` for all others.
    """
    match data:
        case DataView.EXPERT | DataView.REWRITTEN:
            table = records
        case DataView.SELF_ONLY:
            table = records.filter(pc.equal(records["source"], Source.OWN.value))
        case DataView.HINTED:
            found = [hinted_record(one, rewrite, run_seed=run_seed) for one in records_from_table(records)]
            table = records_to_table(found)
    return table.select(COLUMNS)


def rows_of_view(run: Run, plan: Plan, data: DataView) -> pa.Table:
    """Returns the rows of a data view from all records of the run, sorted by problem id.

    Shards are read by the plan's names, so that an incomplete listing cannot lose rows. Raises StageError
    while some shards are not rewritten.
    """
    missing = plan.shards.keys() - run.records.done()
    if missing:
        raise StageError(
            f"{len(missing)} of {len(plan.shards)} shards are not rewritten; run drsft rewrite first"
        )
    config = run.config
    views = [
        view_of(run.records.table(shard), data, config.rewrite, run_seed=config.seed) for shard in plan.shards
    ]
    return pa.concat_tables(views).sort_by("problem_id")


def hinted_record(record: Record, rewrite: Rewrite, *, run_seed: int) -> Record:
    """Returns the record as it would be if only Hinted Decoding followed self-alignment.

    An OWN record stays as it is. Any other gets the accepted samples of Hinted Decoding (HINTED) or, if there
    are none, what `rewrite.fallback` says: the expert's text (EXPERT) or no text (DROPPED).
    """
    if record.source is Source.OWN:
        return record
    kept = choose(
        [one for one in record.attempts if one.rollout.phase is Phase.HINTED and one.is_accepted],
        rewrite.selection,
        rewrite.num_accepted,
        problem_id=record.problem.problem_id,
        run_seed=run_seed,
    )
    if kept:
        first, *others = (attempt.rollout.completion for attempt in kept)
        return replace(
            record,
            source=Source.HINTED,
            completion_ids=first.token_ids,
            text=first.text,
            behaviour_logprobs_T=first.behaviour_logprobs_T,
            further_completions=tuple(others),
            thought=first.thought,
        )
    is_expert = rewrite.fallback == "expert"
    return replace(
        record,
        source=Source.EXPERT if is_expert else Source.DROPPED,
        completion_ids=record.expert_completion_ids if is_expert else (),
        text=record.problem.demonstration if is_expert else "",
        behaviour_logprobs_T=None,
        further_completions=(),
        thought=None,
    )
