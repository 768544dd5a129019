"""Runs the last stage: writes the report's page and those of later rounds, and prints its tables."""

from itertools import islice

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from drsft.report.collect import collect, write_report
from drsft.report.findings.cascade import flow_finding
from drsft.report.terminal.result_rows import COMPARISON_HEADER, ROUNDS_HEADER, comparison_rows, round_rows
from drsft.run.rounds import rounds_of
from drsft.run.run import Run

__all__ = ["show_and_write_report"]


def show_and_write_report(run: Run, console: Console) -> str:
    """Writes the report of the run and of each later round, and returns the URL of the run's page.

    Prints how the problems were solved, and the tables of scores and rounds if there are any.
    """
    data = collect(run)
    if data.cascade is not None and data.cascade.num_kept:
        flow = flow_finding(data.cascade)
        console.print(f"{flow.sentence} {flow.detail}", highlight=False, markup=False, soft_wrap=True)
    if data.comparison:
        table = Table(*COMPARISON_HEADER, box=SIMPLE)
        for row in comparison_rows(data):
            table.add_row(*row)
        console.print(table)
    if data.rounds:
        table = Table(*ROUNDS_HEADER, box=SIMPLE)
        for row in round_rows(data):
            table.add_row(*row)
        console.print(table)
    for one in islice(rounds_of(run), 1, len(data.rounds)):
        write_report(collect(one.run), one.run.store)
    return write_report(data, run.store)
