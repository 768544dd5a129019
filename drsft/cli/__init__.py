"""The command line. A user's mistake is one line on stderr and exit code 2, never a traceback."""

import errno
import logging
import sys
from typing import Annotated, TextIO, cast

import typer

from drsft import __version__
from drsft.bench.cli import bench_app
from drsft.cli.runs import runs_app
from drsft.cli.service import service_app
from drsft.cli.stages import stages_app
from drsft.cli.terminal import tell
from drsft.doctor.cli import doctor_app
from drsft.errors import DrsftError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Rewrite expert solutions into data that the target model could have written, then fine-tune on it.",
)
for part in (stages_app, runs_app, service_app):
    app.add_typer(part)
app.add_typer(bench_app, name="bench")
app.add_typer(doctor_app, name="doctor")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Handles the options that stand before a command."""


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Runs the command line. Exit codes: 0, 1 failed, 2 user's mistake, 3 busy, 129/130/143 for signals."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except DrsftError as error:
        tell(f"error: {error}", logging.ERROR)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stdout = cast(TextIO, None)  # or it would be flushed again at the exit, and fail
        where = error.filename or "standard output, or a temporary file"
        line = (
            f"error: cannot write {where}: {error.strerror}; free space on its disk, or set TMPDIR to another"
        )
        tell(line, logging.ERROR)
        sys.exit(2)
