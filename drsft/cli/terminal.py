"""Provides the parts that all commands share: the console for progress, and how signals stop a command."""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer
from rich.console import Console

from drsft.process.end_requests import END_REQUESTS
from drsft.process.logs import JsonStream, log_as_json, wants_json

__all__ = ["Config", "Overrides", "progress_console", "stoppable", "tell"]

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, as in train.seeds=[0,1,2].")
]


def progress_console() -> Console:
    """Returns the console for a command's progress output."""
    if not wants_json():
        return Console(stderr=True)
    log_as_json()
    return Console(file=cast(TextIO, JsonStream(sys.stderr)), width=200)


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes Ctrl-C, SIGTERM and SIGHUP end the command cleanly, with their usual exit codes."""
    with END_REQUESTS.installed():
        try:
            yield
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may have gone
                tell("stopped; run the same command to resume", logging.WARNING)
            raise typer.Exit(128 + (END_REQUESTS.first or signal.SIGINT)) from None


def tell(line: str, level: int) -> None:
    stream = JsonStream(sys.stderr, level=level) if wants_json() else sys.stderr
    stream.write(f"{line}\n")
