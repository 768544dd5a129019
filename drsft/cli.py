"""The command line. A user's mistake is one line on stderr and exit code 2, never a traceback."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drsft import __version__
from drsft.configfile import load_config
from drsft.errors import DrsftError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Rewrite expert solutions into data that the target model could have written, then fine-tune on it.",
)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, as in train.seeds=[0,1,2].")
]


def _run(config: Path, overrides: Sequence[str] | None, stages: Sequence[str] | None = None) -> None:
    from drsft.stages.pipeline import STAGES, run_pipeline  # Ray and torch take seconds to import

    run_config = load_config(config, overrides or ())
    where = run_pipeline(run_config, stages=tuple(stages or STAGES), console=Console(stderr=True))
    print(where)


@app.command()
def run(config: Config, overrides: Overrides = None) -> None:
    """Rewrite, train, evaluate and report; the same command again goes on where it stopped.

    Examples:  drsft run jobs/configs/quickstart.yaml

               drsft run jobs/configs/gsm8k.yaml problems.limit=200 storage=s3://bucket/runs
    """
    _run(config, overrides)


@app.command()
def rewrite(config: Config, overrides: Overrides = None) -> None:
    """Only the rewriting.  Example:  drsft rewrite jobs/configs/gsm8k.yaml"""
    _run(config, overrides, ("rewrite",))


@app.command()
def gap(config: Config, overrides: Overrides = None) -> None:
    """Only the gap report, over records that were rewritten before."""
    _run(config, overrides, ("gap",))


@app.command()
def train(config: Config, overrides: Overrides = None) -> None:
    """Only the training, on records that were rewritten before."""
    _run(config, overrides, ("train",))


@app.command()
def evaluate(config: Config, overrides: Overrides = None) -> None:
    """Only the evaluation, of models that were trained before."""
    _run(config, overrides, ("evaluate",))


@app.command()
def report(config: Config, overrides: Overrides = None) -> None:
    """Write the report again from what the run has so far."""
    _run(config, overrides, ("report",))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Ends with 0, with 2 for a user's mistake, with 1 for a failed stage, with 130 for Ctrl-C."""
    try:
        app()
    except DrsftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
