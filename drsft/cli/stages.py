"""The commands that run a run's stages."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from drsft.cli.terminal import Config, Overrides, progress_console, stoppable
from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.errors import ConfigError
from drsft.process.collector import collector_paused

__all__ = ["run_stages", "stages_app"]

stages_app = typer.Typer()


def run_stages(
    config: Path,
    overrides: Sequence[str] | None,
    stages: Sequence[str] | None = None,
    *,
    on_lines: Callable[[Sequence[str]], None] = lambda lines: None,
) -> RunConfig:
    run_config = load_config(config, overrides or ())
    with collector_paused():
        from drsft.stages.pipeline import STAGES, run_pipeline  # Ray takes a second to import

    with stoppable():
        console = progress_console()
        print(run_pipeline(run_config, stages=tuple(stages or STAGES), console=console, on_lines=on_lines))
    return run_config


@stages_app.command()
def run(
    config: Config,
    overrides: Overrides = None,
    live: Annotated[
        bool, typer.Option("--live", help="Serve the report on this machine during the run.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --live; 0 takes a free one.")] = 8710,
) -> None:
    """Rewrite, train, evaluate and report; repeat the same command to resume after a stop.

    Examples:  drsft run jobs/configs/quickstart.yaml

               drsft run jobs/configs/quickstart.yaml --live

               drsft run jobs/configs/gsm8k.yaml problems.limit=200 storage=s3://bucket/runs
    """
    if not live:
        run_stages(config, overrides)
        return
    from drsft.report.html.live import LiveReport, served

    report = LiveReport(load_config(config, overrides or ()))
    with served(report, port=port) as address:
        print(f"live report: {address}", file=sys.stderr)
        run_stages(config, overrides, on_lines=report.show_progress)


@stages_app.command()
def rewrite(
    config: Config,
    overrides: Overrides = None,
    export: Annotated[
        Literal["messages", "pairs"] | None,
        typer.Option(help="Also write the records for other trainers: chat messages, or preference pairs."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="Folder or s3:// URL of the export; by default in the run."),
    ] = None,
) -> None:
    """Run the rewriting stage only; a finished run is not rewritten again.

    Examples:  drsft rewrite jobs/configs/gsm8k.yaml

               drsft rewrite jobs/configs/gsm8k.yaml --export pairs --out s3://bucket/pairs
    """
    if out is not None and export is None:
        raise ConfigError("--out says where an export goes; add --export messages or --export pairs")
    run_config = run_stages(config, overrides, ("rewrite",))
    if export is not None:
        _export(run_config, export, out)


def _export(config: RunConfig, kind: Literal["messages", "pairs"], out: str | None) -> None:
    from drsft.cli.export import export_records
    from drsft.run import layout
    from drsft.run.rounds import newest_round
    from drsft.run.run import open_run
    from drsft.storage import open_store

    newest = newest_round(open_run(config))
    exported = export_records(kind, newest, open_store(out) if out else newest.store.within(layout.EXPORT))
    counts = ", ".join(f"{count:,} {what}" for what, count in exported.counts.most_common())
    print(f"{kind}: {exported.num_rows:,} rows ({counts})", file=sys.stderr)
    print(exported.url)


@stages_app.command()
def gap(
    config: Config,
    overrides: Overrides = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Score these rows instead: JSON lines, Parquet, s3://, hub."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Score under this model instead of the target.")
    ] = None,
) -> None:
    """Measure how far texts are from what a model would write, and recommend what to do.

    Without options it scores the run's records and the experts' texts. With --data it scores rows that hold
    problem, prompt or messages, and completion or solution; a `source` column groups them.

    Examples:  drsft gap jobs/configs/quickstart.yaml

               drsft gap my-run.yaml --data s3://bucket/sft.jsonl --model runs/my-run-4f2a/train/…/export
    """
    if data is None and model is None:
        run_stages(config, overrides, ("gap",))
        return
    from drsft.stages.gap_of_texts import run_gap_of

    with stoppable():
        run_config = load_config(config, overrides or ())
        print(run_gap_of(run_config, data=data, model=model, console=Console(stderr=True)))


@stages_app.command()
def train(config: Config, overrides: Overrides = None) -> None:
    """Run the training stage only, on records that were rewritten before."""
    run_stages(config, overrides, ("train",))


@stages_app.command()
def evaluate(
    config: Config,
    overrides: Overrides = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare two models, paired by problem; nothing is sampled."),
    ] = None,
    rejudge: Annotated[
        bool, typer.Option("--rejudge", help="Judge the samples anew with this verifier; samples nothing.")
    ] = False,
) -> None:
    """Run the evaluation stage only, on models that were trained before; existing samples are reused.

    A model of --compare is `base`, an arm (all its seeds), ARM/seed-N, or WHERE:MODEL of another run, with
    WHERE a run's folder, its s3:// URL or its CONFIG.

    Examples:  drsft evaluate jobs/configs/quickstart.yaml

               drsft evaluate jobs/configs/quickstart.yaml --compare dr+dft sft

               drsft evaluate new.yaml --compare dr+dft runs/old-4f2a:dr+dft

               drsft evaluate jobs/configs/quickstart.yaml --rejudge
    """
    from drsft.cli import evaluate as commands

    if compare and rejudge:
        raise ConfigError("--compare and --rejudge are two commands; run one after the other")
    console = Console(width=None if sys.stdout.isatty() else commands.WIDTH)
    if compare:
        commands.compare_models(load_config(config, overrides or ()), *compare, console)
    elif rejudge:
        commands.rejudge(load_config(config, overrides or ()), console)
    else:
        commands.show_scores(run_stages(config, overrides, ("evaluate",)), console)
