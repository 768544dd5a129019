"""`drsft inspect`: reads a run's records, filters them and shows them, a page at a time on a terminal.

A record's heat map is read from the shard of gap scores with the same name as the record's shard.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

from rich.console import Console, RenderableType

from drsft.errors import InputError
from drsft.records import Outcome, Record, Source
from drsft.report.grounding import grounding_of
from drsft.report.terminal.grounding import grounding_view
from drsft.report.terminal.record import matches, record_view
from drsft.report.terminal.run_summary import summary_view
from drsft.run.run import Run

__all__ = ["Filters", "browse", "show_grounding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The conditions on the records to show; an empty filter matches every record.

    `problem_id` may be the beginning of an id.
    """

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


def browse(
    run: Run,
    filters: Filters,
    *,
    limit: int,
    show_attempts: bool,
    show_heat: bool = False,
    console: Console,
) -> None:
    """Prints the run's summary, then the first `limit` records that match the filters.

    It reads only the shards needed to reach the limit. Raises InputError if the run has no records yet, or if
    `show_heat` is set and it has no gap report.
    """
    run.check_has_records()
    plan, summaries = run.plan(), run.summaries()
    num_rewritten = sum(summary.counts.kept.total() for summary in summaries)
    num_problems = plan.num_problems if plan else num_rewritten
    heat_of = _heat_reader(run) if show_heat else None
    found = list(islice(_records(run, filters), limit + 1)) if limit else []
    os.environ.setdefault("LESS", "-RFX")  # keep colours; no pager if the text fits on the screen
    with console.pager(styles=True) if console.is_terminal else nullcontext():
        console.print(summary_view(run.url, summaries, num_problems=num_problems))
        console.print()
        for shard, record in found[:limit]:
            console.print(record_view(record, show_attempts=show_attempts))
            if heat_of is not None:
                console.print(heat_of(shard, record), end="\n\n")
        if len(found) > limit > 0:
            console.print(f"{limit:,} shown, and more match: --limit", style="dim", highlight=False)
        elif limit and not found:
            console.print("no record matches", style="dim")


def show_grounding(run: Run, filters: Filters, *, limit: int, console: Console) -> None:
    """Prints how likely the target finds the guided solutions of matching records without their guide.

    `limit` is the number of examples. Raises InputError if the run has no records yet.
    """
    run.check_has_records()
    found = grounding_of((record for _, record in _records(run, filters)), num_examples=limit)
    os.environ.setdefault("LESS", "-RFX")
    with console.pager(styles=True) if console.is_terminal else nullcontext():
        console.print(grounding_view(found))


def _records(run: Run, filters: Filters) -> Iterator[tuple[str, Record]]:
    """Yields the matching records, each with the name of its shard."""
    return ((shard, record) for shard, record in run.each_record() if filters.let_pass(record))


def _heat_reader(run: Run) -> Callable[[str, Record], RenderableType]:
    """Returns a function from a shard and a record to its heat map.

    torch and the tokenizer are loaded only when that function is called.
    """
    from drsft.gap.report import heat_maps_of
    from drsft.gap.scored_texts import scores_of
    from drsft.policy.prompts import model_location
    from drsft.policy.turn.tokenizer_files import load_tokenizer
    from drsft.report.terminal.gap import heat_view

    scores = scores_of(run.store)
    done = scores.done()
    if not done:
        raise InputError(f"{run.url} has no gap report yet; score its texts first: drsft gap CONFIG")
    target = run.config.target
    decode = load_tokenizer(model_location(target.model)).decode

    def read(shard: str, record: Record) -> RenderableType:
        if shard not in done:
            return "this record is not scored yet; run drsft gap CONFIG"
        return heat_view(heat_maps_of(scores.table(shard), record.problem.problem_id, decode))

    return read
