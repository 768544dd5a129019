"""`drsft bench intake`: measures how fast many rows become shards, by this build and by another checkout's.

The timed call is `plan_problems`: reading, checking, tokenising, deduplicating, the screens at their
defaults, writing shards. Imports and loading the tokenizer are not timed. Each round of each build is a
process of its own.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import drsft
from drsft.bench.intake.varied_rows import write_varied_rows
from drsft.bench.memory import MemoryCurve
from drsft.bench.spread import spread
from drsft.bench.subprocesses import environment_of, last_json_line, other_checkout, run_side

__all__ = ["IntakeRound", "IntakeSide", "bench_intake", "print_bench"]

SIDE = Path(__file__).with_name("intake_side.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSide:
    """The counts, time and memory of one build (this or the other) when it read all rows once."""

    num_read: int
    num_problems: int
    digest: str  # of the problems in order
    seconds: float
    processor_s: float
    memory: MemoryCurve  # with worker processes

    @property
    def rows_per_s(self) -> float:
        return self.num_read / self.seconds


@dataclass(frozen=True, slots=True)
class IntakeRound:
    ours: IntakeSide
    peer: IntakeSide | None


def bench_intake(
    data: Sequence[Path],
    *,
    num_rows: int,
    model: str,
    max_model_len: int,
    peer: Path | None,
    num_rounds: int,
) -> Iterator[IntakeRound]:
    """Yields the measurements of each round as it ends.

    `peer` is another checkout of drsft that is measured, too; None: only this one is measured. The two
    alternate in which one goes first. Raises InputError if `data` cannot be read, or if `peer`
    is not a checkout.
    """
    own = Path(drsft.__file__).parent.parent
    other = None if peer is None else other_checkout(peer)
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        path = Path(folder) / "rows.jsonl"
        write_varied_rows(path, data, num_rows)
        for number in range(num_rounds):
            checkouts = [own] if other is None else [own, other]
            if number % 2:
                checkouts.reverse()
            sides = {one: _side(one, path, model, max_model_len) for one in checkouts}
            yield IntakeRound(sides[own], None if other is None else sides[other])


def print_bench(rounds: Sequence[IntakeRound], console: Console | None = None) -> None:
    console = console or Console()
    last = rounds[-1]
    names = ("rows/s, median", "least", "most", "processor s", "peak MiB")
    table = Table("build", *names, title=f"{last.ours.num_read:,} rows, {len(rounds)} round(s)")
    ours, peers = [one.ours for one in rounds], [one.peer for one in rounds if one.peer is not None]
    for name, sides in (("this", ours), ("other", peers)):
        if sides:
            rates = [side.rows_per_s for side in sides]
            processor_s = statistics.median(side.processor_s for side in sides)
            peak = max(max(side.memory.samples) for side in sides)
            shown = (f"{value:,.0f}" for value in (statistics.median(rates), min(rates), max(rates)))
            table.add_row(name, *shown, f"{processor_s:,.1f}", f"{peak:,.0f}")
    console.print(table)
    if peers:
        ratios = [one.peer.seconds / one.ours.seconds for one in rounds if one.peer is not None]
        spared = [one.peer.processor_s / one.ours.processor_s for one in rounds if one.peer is not None]
        faster, less = spread(ratios, decimals=1), spread(spared, decimals=1)
        console.print(f"this build is {faster} times as fast as the other")
        console.print(f"the other build takes {less} times as much processor time")
        are_same = all(side.digest == last.ours.digest for side in (*ours, *peers))
        console.print(f"both read the same {last.ours.num_problems:,} problems in the same order: {are_same}")
    console.print(f"memory of the last round in tenths of its time, MiB: {last.ours.memory}", highlight=False)


def _side(checkout: Path, data: Path, model: str, max_model_len: int) -> IntakeSide:
    command = [sys.executable, "-P", str(SIDE), str(data), model, str(max_model_len)]
    found = last_json_line(run_side(command, environment=environment_of(checkout)))
    return IntakeSide(memory=MemoryCurve(found.pop("memory_mib")), **found)
