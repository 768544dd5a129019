"""The commands that read finished or running runs: report, compare, plan, inspect."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drsft.cli.stages import run_stages
from drsft.cli.terminal import Config, Overrides
from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.errors import ConfigError, InputError
from drsft.records import Outcome, Source

__all__ = ["runs_app"]

runs_app = typer.Typer()


@runs_app.command()
def report(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="A YAML configuration.")] = None,
    overrides: Overrides = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="RUN RUN", help="Two runs on one page, by folder, s3:// URL or CONFIG."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for each chart as SVG and PNG.")
    ] = None,
) -> None:
    """Write the report again from what the run has so far.

    Examples:  drsft report my-run.yaml report.price_per_gpu_hour=2.5

               drsft report my-run.yaml --plots figures

               drsft report --compare runs/first-4f2a runs/second-91c0
    """
    if compare is not None:
        if config is not None or plots is not None:
            raise ConfigError("--compare takes two runs and nothing else")
        _compare(*compare)
        return
    if config is None:
        raise ConfigError("no run is given; name its CONFIG, or two runs with --compare")
    run_config = run_stages(config, overrides, ("report",))
    if plots is not None:
        _plot(run_config, plots)


def _compare(first: str, second: str) -> None:
    from drsft.report.html.compare_page import render_comparison
    from drsft.report.run_comparison import compare_runs
    from drsft.run import layout
    from drsft.run.run import find_run

    run = find_run(first)
    comparison = compare_runs(run, find_run(second))
    key = layout.REPORT.against(comparison.second)
    run.store.put(key, render_comparison(comparison).encode())
    print(f"{run.url}/{key}")


def _plot(config: RunConfig, folder: Path) -> None:
    from drsft.report.charts.files import write_plots
    from drsft.report.collect import collect
    from drsft.run.run import open_run

    for path in write_plots(collect(open_run(config), max_rows=0), folder):
        print(path)


@runs_app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="The run to take rates from: a folder, s3:// URL or CONFIG."),
    ] = None,
    gpu_hour: Annotated[
        float, typer.Option(min=0, metavar="PRICE", help="Price of one GPU for an hour.")
    ] = 0,
    cpu_hour: Annotated[
        float, typer.Option(min=0, metavar="PRICE", help="Price of one core for an hour.")
    ] = 0,
    gb_month: Annotated[float, typer.Option(min=0, metavar="PRICE", help="Price of one GB for a month.")] = 0,
    memory: Annotated[
        bool, typer.Option("--memory", help="Show instead how much memory the processes of each stage need.")
    ] = False,
    card_gb: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="GB", help="With --memory: fail if a stage needs more than this on one GPU."
        ),
    ] = None,
) -> None:
    """Estimate a run (tokens, hours, storage, money) from the rates of a finished one.

    Rates come from a small run of the same model on the same machines; the arithmetic is shown. --memory
    needs no finished run: it uses the sizes of the model's tensors.

    Examples:  drsft run my-run.yaml problems.limit=200 name=trial

               drsft plan my-run.yaml --calibrate s3://bucket/runs/trial-4f2a --gpu-hour 2.5 --gb-month 0.023

               drsft plan my-run.yaml --memory --card-gb 80
    """
    from drsft.cli.plan import show_memory, show_plan
    from drsft.run.run import find_run, run_of
    from drsft.sizing.estimate import Prices

    run_config = load_config(config, overrides or ())
    if memory:
        show_memory(run_config, Console(width=None), card_gb=card_gb)
        return
    calibration = find_run(calibrate) if calibrate else run_of(run_config)
    if not calibration.is_started:
        raise InputError(_how_to_calibrate(config, [*(overrides or ()), "problems.limit=200", "name=trial"]))
    prices = Prices(gpu_hour=gpu_hour, cpu_hour=cpu_hour, gb_month=gb_month)
    show_plan(run_config, calibration, prices, Console(width=None))


def _how_to_calibrate(config: Path, overrides: Sequence[str]) -> str:
    from drsft.run.run import run_of

    trial = shlex.join(["drsft", "run", str(config), *overrides])
    url = shlex.quote(run_of(load_config(config, overrides)).url)
    return f"rates come from a finished run; do a small part first, {trial}, then add --calibrate {url}"


@runs_app.command()
def inspect(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, its s3:// URL, or a CONFIG.")],
    overrides: Overrides = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Largest number of records; 0 shows the summary alone.")
    ] = 10,
    source: Annotated[
        Source | None, typer.Option(help="Records whose trained text is of this source.")
    ] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Records with an attempt of this outcome.")] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Records with an attempt judged for this reason.")
    ] = "",
    problem: Annotated[
        str, typer.Option(metavar="ID", help="The record of this problem (or start of it).")
    ] = "",
    attempts: Annotated[bool, typer.Option("--attempts", help="Show every sample that was drawn.")] = False,
    heat: Annotated[bool, typer.Option("--heat", help="Show each token's φ, after drsft gap.")] = False,
    grounding: Annotated[
        bool, typer.Option("--grounding", help="Guided solutions that lead least and most to their answer.")
    ] = False,
) -> None:
    """Browse the records of a run: the expert's text beside the kept one, with the reasons.

    Examples:  drsft inspect runs/quickstart-4f2a --source expert --limit 3

               drsft inspect s3://bucket/runs/gsm8k-4f2a --outcome wrong --reason "plain numbers" --attempts

               drsft inspect runs/quickstart-4f2a --problem 7c1e --heat

               drsft inspect runs/quickstart-4f2a --grounding --limit 5
    """
    from drsft.cli.inspect import Filters, browse, show_grounding
    from drsft.run.run import find_run

    filters = Filters(source=source, outcome=outcome, reason=reason, problem_id=problem)
    if grounding:
        show_grounding(find_run(run, overrides or ()), filters, limit=limit, console=Console())
        return
    browse(
        find_run(run, overrides or ()),
        filters,
        limit=limit,
        show_attempts=attempts,
        show_heat=heat,
        console=Console(),
    )
