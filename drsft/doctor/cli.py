"""`drsft doctor`: is this machine fit, is a store, and are the objectives right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from drsft.doctor.environment import EnvironmentCheck, check_environment

__all__ = ["doctor_app"]

MARKS = {"ok": "✓", "warning": "!", "wrong": "✗"}

doctor_app = typer.Typer(help="Check the environment, a store, or the objectives against worked numbers.")


@doctor_app.callback(invoke_without_command=True)
def doctor(context: typer.Context) -> None:
    """Check the environment: versions, hardware, memory, disk, ports, Ray; each trouble with its cure.

    Examples:  drsft doctor

               drsft doctor storage s3://bucket/runs

               drsft doctor losses --fixtures loss_fixtures.json
    """
    if context.invoked_subcommand is None:
        raise typer.Exit(0 if _print_checks(list(check_environment())) else 1)


def _print_checks(checks: Sequence[EnvironmentCheck]) -> bool:
    """Whether nothing is wrong; warnings are not."""
    table = Table("", "what", "found", "cure")
    for check in checks:
        table.add_row(MARKS[check.state], check.name, check.found, check.cure)
    Console().print(table)
    return all(check.state != "wrong" for check in checks)


@doctor_app.command()
def storage(
    url: Annotated[str, typer.Argument(metavar="URL", help="A folder, or s3://bucket/prefix.")],
) -> None:
    """Try everything that a run relies on in a folder or bucket, and say what is missing.

    Writes some 20 MB below a prefix of its own and removes them; ends with 1 where something is wrong.

    Examples:  drsft doctor storage s3://bucket/runs

               drsft doctor storage /shared/runs
    """
    from drsft.doctor.storage import check_storage

    is_fit = True
    for check in check_storage(url):
        print(_line(check), flush=True)
        is_fit &= check.state != "wrong"
    raise typer.Exit(0 if is_fit else 1)


def _line(check: EnvironmentCheck) -> str:
    return f"{MARKS[check.state]} {check.name}: {check.found}" + (f"; {check.cure}" if check.cure else "")


@doctor_app.command()
def losses(
    fixtures: Annotated[Path, typer.Option(metavar="FILE", help="Worked cases, JSON.")],
) -> None:
    """Compute every case of FILE twice, with full logits and fused, and compare to 1e-6 in float64.

    Prints the largest |found − expected| / max(1, |expected|) of each method; ends with 1 where it is more.

    Examples:  drsft doctor losses --fixtures loss_fixtures.json
    """
    from drsft.doctor.losses.check import check_losses

    report = check_losses(fixtures)
    console = Console()
    for table in report.tables():
        console.print(table)
    for line in report.complaints:
        print(line)
    raise typer.Exit(0 if report.is_right else 1)
