"""`drsft inspect`: reads a run's records, filters them and shows them, a page at a time on a terminal."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

from rich.console import Console

from drsft.planning import read_plan
from drsft.records import Outcome, Record, Source
from drsft.report.inspect import matches, record_view
from drsft.report.inspect_summary import summary_view
from drsft.runs import record_tables, rewritten_shards
from drsft.storage import Store
from drsft.tables import records_from_table

__all__ = ["Filters", "browse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a record must be to be shown; empty ones let everything pass. `problem_id` may be its start."""

    source: Source | None = None
    outcome: Outcome | None = None
    reason: str = ""
    problem_id: str = ""

    def let_pass(self, record: Record) -> bool:
        return matches(
            record,
            source=self.source,
            outcome=self.outcome,
            reason=self.reason,
            problem_id=self.problem_id,
        )


def browse(run: Store, filters: Filters, *, limit: int, show_attempts: bool, console: Console) -> None:
    """The run's summary, then the first `limit` records that pass. Raises InputError without records.

    Reads no more shards than it takes to fill the limit.
    """
    shards = rewritten_shards(run)
    plan = read_plan(run, "problems")
    num_rewritten = sum(shard.num_rows for shard in shards.values())
    num_problems = plan.num_problems if plan else num_rewritten
    found = list(islice(_records(run, filters), limit + 1)) if limit else []
    os.environ.setdefault("LESS", "-RFX")  # colours; and no pager for what fits the screen
    with console.pager(styles=True) if console.is_terminal else nullcontext():
        console.print(
            summary_view(run.url, [shard.summary for shard in shards.values()], num_problems=num_problems)
        )
        console.print()
        for record in found[:limit]:
            console.print(record_view(record, show_attempts=show_attempts))
        if len(found) > limit > 0:
            console.print(f"{limit:,} shown, and more match: --limit", style="dim", highlight=False)
        elif limit and not found:
            console.print("no record matches", style="dim")


def _records(run: Store, filters: Filters) -> Iterator[Record]:
    for table in record_tables(run):
        yield from filter(filters.let_pass, records_from_table(table))
