"""The commands of `drsft doctor`, which check what a run relies on."""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from drsft.doctor.checks import Check
from drsft.doctor.environment import check_environment

__all__ = ["doctor_app"]

MARKS = {"ok": "✓", "warning": "!", "wrong": "✗"}

doctor_app = typer.Typer(
    help="Check the environment, a store, a template, the objectives, or what a second run repeats."
)


@doctor_app.callback(invoke_without_command=True)
def doctor(context: typer.Context) -> None:
    """Check the environment: versions, hardware, memory, disk, ports, Ray; each problem with its fix.

    Examples:  drsft doctor

               drsft doctor template Qwen/Qwen3-0.6B

               drsft doctor storage s3://bucket/runs

               drsft doctor losses --fixtures loss_fixtures.json

               drsft doctor determinism jobs/configs/quickstart.yaml
    """
    if context.invoked_subcommand is None:
        raise typer.Exit(0 if _print_checks(list(check_environment())) else 1)


def _print_checks(checks: Sequence[Check]) -> bool:
    """Prints the checks and returns whether none is wrong; warnings do not count as wrong."""
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

    Writes some 20 MB below a temporary prefix and removes them; exits with 1 if a check fails.

    Examples:  drsft doctor storage s3://bucket/runs

               drsft doctor storage /shared/runs
    """
    from drsft.doctor.storage import check_storage

    is_fit = True
    for check in check_storage(url):
        print(_line(check), flush=True)
        is_fit &= check.state != "wrong"
    raise typer.Exit(0 if is_fit else 1)


def _line(check: Check) -> str:
    return f"{MARKS[check.state]} {check.name}: {check.found}" + (f"; {check.cure}" if check.cure else "")


@doctor_app.command()
def losses(
    fixtures: Annotated[Path, typer.Option(metavar="FILE", help="Worked cases, JSON.")],
) -> None:
    """Compute the losses of every case in FILE and compare them with its numbers, to 1e-6 in float64.

    Each case is computed twice: with full logits, and with the fused loss that trains. Prints the largest
    |found − expected| / max(1, |expected|) of each objective; exits with 1 if one is above 1e-6.

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


@doctor_app.command()
def template(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a hub name, or a CONFIG.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="As in target.chat_template=FILE."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the assistant's turn as the model's chat template makes it, and as it will be trained.

    Prints prompt, head, text and tail with their ids, the end tokens, the markers of thoughts, the date, and
    the variables that target.chat_template_kwargs can set. Exits with 2 if the template is rejected.

    Examples:  drsft doctor template my-model --json

               drsft doctor template Qwen/Qwen3-0.6B target.chat_template_kwargs.enable_thinking=false
    """
    from drsft.doctor.template import check_template

    report = check_template(model, overrides or [])
    if as_json:
        print(json.dumps(report.as_json(), ensure_ascii=False))
    elif report.refused is not None:
        print(f"refused: {report.refused}")
    console = Console()
    for table in [] if as_json else report.tables():
        console.print(table)
    raise typer.Exit(0 if report.refused is None else 2)


@doctor_app.command()
def determinism(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As in target.dtype=float32.")
    ] = None,
    problems: Annotated[int, typer.Option(min=1, help="How many problems are tried, from the first on.")] = 8,
) -> None:
    """Try what a second run of CONFIG would reproduce on this machine, stage by stage.

    Each stage is run twice in the same way, and once in other batches: problem by problem, text by text.
    Nothing is stored. docs/determinism.md says what each result depends on.

    Examples:  drsft doctor determinism jobs/configs/quickstart.yaml

               drsft doctor determinism my-run.yaml --problems 32 train.arms=[]
    """
    from drsft.config.configfile import load_config
    from drsft.policy.vllm.engine import set_environment

    run_config = load_config(config, overrides or [])
    set_environment()  # before torch is loaded, as in a run
    os.environ.setdefault("TQDM_DISABLE", "1")  # each pass loads the model
    warnings.simplefilter("ignore")  # warnings of torch and transformers that concern only themselves
    from drsft.doctor.determinism.probes import compare_passes

    told = Console(stderr=True)
    table = Table("stage", "compared", "a second time", "in other batches")
    for one in compare_passes(run_config, num_problems=problems, say=told.print):
        table.add_row(one.stage, one.what, str(one.again), str(one.in_other_batches))
    Console().print(table)
