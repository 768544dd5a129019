"""What every command shares: where it speaks, how it is stopped."""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer
from rich.console import Console

from drsft.process.logs import JsonStream, log_as_json, wants_json

__all__ = ["Config", "Overrides", "progress_console", "stoppable", "tell"]

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, as in train.seeds=[0,1,2].")
]


def progress_console() -> Console:
    """For what a command says while it works."""
    if not wants_json():
        return Console(stderr=True)
    log_as_json()
    return Console(file=cast(TextIO, JsonStream(sys.stderr)), width=200)


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command in order, with their usual exit codes."""
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except KeyboardInterrupt as stopped:
        tell("stopped; the same command goes on from here", logging.WARNING)
        raise typer.Exit(143 if stopped.args else 130) from None


def _end(signum: int, frame: object) -> None:
    """A request to end is Ctrl-C from a machine: everything is shut down in order."""
    raise KeyboardInterrupt("SIGTERM")


def tell(line: str, level: int) -> None:
    stream = JsonStream(sys.stderr, level=level) if wants_json() else sys.stderr
    stream.write(f"{line}\n")
