"""`drsft doctor`: is this machine fit, and are the objectives right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from drsft.doctor.environment import EnvironmentCheck, check_environment

__all__ = ["doctor_app"]

doctor_app = typer.Typer(help="Check the environment, or the objectives against worked numbers.")


@doctor_app.callback(invoke_without_command=True)
def doctor(context: typer.Context) -> None:
    """Check the environment: versions, hardware, memory, disk, ports, Ray; each trouble with its cure.

    Examples:  drsft doctor

               drsft doctor losses --fixtures loss_fixtures.json
    """
    if context.invoked_subcommand is None:
        raise typer.Exit(0 if _print_checks(list(check_environment())) else 1)


def _print_checks(checks: Sequence[EnvironmentCheck]) -> bool:
    """Whether nothing is wrong; warnings are not."""
    marks = {"ok": "✓", "warning": "!", "wrong": "✗"}
    table = Table("", "what", "found", "cure")
    for check in checks:
        table.add_row(marks[check.state], check.name, check.found, check.cure)
    Console().print(table)
    return all(check.state != "wrong" for check in checks)


@doctor_app.command()
def losses(
    fixtures: Annotated[Path, typer.Option(metavar="FILE", help="Worked cases, JSON.")],
) -> None:
    """Compute every case of FILE twice, with full logits and fused, and compare to 1e-6 in float64.

    Prints the largest |found − expected| / max(1, |expected|) of each method; ends with 1 where it is more.

    Examples:  drsft doctor losses --fixtures loss_fixtures.json
    """
    from drsft.doctor.check import check_losses

    report = check_losses(fixtures)
    console = Console()
    for table in report.tables():
        console.print(table)
    for line in report.complaints:
        print(line)
    raise typer.Exit(0 if report.is_right else 1)
