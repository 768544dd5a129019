"""The command line. A user's mistake is one line on stderr and exit code 2, never a traceback."""

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TextIO, cast

import typer
from rich.console import Console

from drsft import __version__
from drsft.bench.cli import bench_app
from drsft.config import RunConfig
from drsft.configfile import load_config
from drsft.doctor.cli import doctor_app
from drsft.errors import ConfigError, DrsftError
from drsft.logs import JsonStream, log_as_json, wants_json
from drsft.records import Outcome, Source

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Rewrite expert solutions into data that the target model could have written, then fine-tune on it.",
)

app.add_typer(bench_app, name="bench")
app.add_typer(doctor_app, name="doctor")

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, as in train.seeds=[0,1,2].")
]


def _run(config: Path, overrides: Sequence[str] | None, stages: Sequence[str] | None = None) -> RunConfig:
    from drsft.stages.pipeline import STAGES, run_pipeline  # Ray and torch take seconds to import

    run_config = load_config(config, overrides or ())
    with _stoppable():
        print(run_pipeline(run_config, stages=tuple(stages or STAGES), console=_console()))
    return run_config


def _console() -> Console:
    """For what a command says while it works."""
    if not wants_json():
        return Console(stderr=True)
    log_as_json()
    return Console(file=cast(TextIO, JsonStream(sys.stderr)), width=200)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command in order, with their usual exit codes."""
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except KeyboardInterrupt as stopped:
        _tell("stopped; the same command goes on from here", logging.WARNING)
        raise typer.Exit(143 if stopped.args else 130) from None


def _end(signum: int, frame: object) -> None:
    """A request to end is Ctrl-C from a machine: everything is shut down in order."""
    raise KeyboardInterrupt("SIGTERM")


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
    """What goes before a command."""


@app.command()
def run(
    config: Config,
    overrides: Overrides = None,
    live: Annotated[
        bool, typer.Option("--live", help="Serve the report on this machine while the run goes on.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --live; 0 takes a free one.")] = 8710,
) -> None:
    """Rewrite, train, evaluate and report; the same command again goes on where it stopped.

    Examples:  drsft run jobs/configs/quickstart.yaml

               drsft run jobs/configs/quickstart.yaml --live

               drsft run jobs/configs/gsm8k.yaml problems.limit=200 storage=s3://bucket/runs
    """
    if not live:
        _run(config, overrides)
        return
    from drsft.report.live import served

    with served(load_config(config, overrides or ()), port=port) as address:
        print(f"live report: {address}", file=sys.stderr)
        _run(config, overrides)


@app.command()
def rewrite(
    config: Config,
    overrides: Overrides = None,
    export: Annotated[
        Literal["messages", "pairs"] | None,
        typer.Option(help="Also write the records for other trainers: chat messages, or preference pairs."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="Folder or s3:// URL of the export; else with the run."),
    ] = None,
) -> None:
    """Only the rewriting; a finished run is not rewritten again.

    Examples:  drsft rewrite jobs/configs/gsm8k.yaml

               drsft rewrite jobs/configs/gsm8k.yaml --export pairs --out s3://bucket/pairs
    """
    if out is not None and export is None:
        raise ConfigError("--out says where an export goes; add --export messages or --export pairs")
    run_config = _run(config, overrides, ("rewrite",))
    if export is not None:
        _export(run_config, export, out)


def _export(config: RunConfig, kind: Literal["messages", "pairs"], out: str | None) -> None:
    from drsft.exporting import export_records
    from drsft.runs import last_round, open_run
    from drsft.storage import open_store

    run_store = last_round(config, open_run(config))
    exported = export_records(kind, config, run_store, open_store(out) if out else run_store.within("export"))
    counts = ", ".join(f"{count:,} {what}" for what, count in exported.counts.most_common())
    print(f"{kind}: {exported.num_rows:,} rows ({counts})", file=sys.stderr)
    print(exported.url)


@app.command()
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
    """How far texts are from what a model would write, and what to do about it.

    Without options: the records that were rewritten before, beside the experts' texts. Rows of --data hold
    problem, prompt or messages, and completion or solution; a `source` column groups them.

    Examples:  drsft gap jobs/configs/quickstart.yaml

               drsft gap my-run.yaml --data s3://bucket/sft.jsonl --model runs/my-run-4f2a/train/…/export
    """
    if data is None and model is None:
        _run(config, overrides, ("gap",))
        return
    from drsft.stages.gap import run_gap_of

    with _stoppable():
        run_config = load_config(config, overrides or ())
        print(run_gap_of(run_config, data=data, model=model, console=Console(stderr=True)))


@app.command()
def train(config: Config, overrides: Overrides = None) -> None:
    """Only the training, on records that were rewritten before."""
    _run(config, overrides, ("train",))


@app.command()
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
    """Only the evaluation, of models that were trained before; what was sampled is not sampled again.

    A model of --compare is `base`, an arm (all its seeds), ARM/seed-N, or WHERE:MODEL of another run, with
    WHERE a run's folder, its s3:// URL or its CONFIG.

    Examples:  drsft evaluate jobs/configs/quickstart.yaml

               drsft evaluate jobs/configs/quickstart.yaml --compare dr+dft sft

               drsft evaluate new.yaml --compare dr+dft runs/old-4f2a:dr+dft

               drsft evaluate jobs/configs/quickstart.yaml --rejudge
    """
    from drsft.evaluate import commands

    if compare and rejudge:
        raise ConfigError("--compare and --rejudge are two commands; run one after the other")
    console = Console(width=None if sys.stdout.isatty() else commands.WIDTH)
    if compare:
        commands.compare_models(load_config(config, overrides or ()), *compare, console)
    elif rejudge:
        commands.rejudge(load_config(config, overrides or ()), console)
    else:
        commands.show_scores(_run(config, overrides, ("evaluate",)), console)


@app.command()
def report(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="A YAML configuration.")] = None,
    overrides: Overrides = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="RUN RUN", help="Two runs on one page, by folder, s3:// URL or CONFIG."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each chart there, as SVG and PNG.")
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
        raise ConfigError("which run? give its CONFIG, or two runs with --compare")
    run_config = _run(config, overrides, ("report",))
    if plots is not None:
        _plot(run_config, plots)


def _compare(first: str, second: str) -> None:
    from drsft.report.compare_page import render_comparison
    from drsft.report.comparing import compare_runs

    comparison, store = compare_runs(first, second)
    key = f"report/against-{comparison.second}.html"
    store.put(key, render_comparison(comparison).encode())
    print(f"{store.url}/{key}")


def _plot(config: RunConfig, folder: Path) -> None:
    from drsft.report.collect import collect
    from drsft.report.plots import write_plots
    from drsft.runs import open_run

    for path in write_plots(collect(config, open_run(config), max_rows=0), folder):
        print(path)


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="The run to take rates from: a folder, s3:// URL or CONFIG."),
    ] = None,
    gpu_hour: Annotated[float, typer.Option(min=0, metavar="PRICE", help="Of one GPU for an hour.")] = 0,
    cpu_hour: Annotated[float, typer.Option(min=0, metavar="PRICE", help="Of one core for an hour.")] = 0,
    gb_month: Annotated[float, typer.Option(min=0, metavar="PRICE", help="Of one GB for a month.")] = 0,
) -> None:
    """What a run would take (tokens, hours, storage, money), from what a finished one took.

    Rates come from a small run of the same model on the same machines; the arithmetic is shown.

    Examples:  drsft run my-run.yaml problems.limit=200 name=trial

               drsft plan my-run.yaml --calibrate s3://bucket/runs/trial-4f2a --gpu-hour 2.5 --gb-month 0.023
    """
    from drsft.runs import find_run, open_run
    from drsft.sizing.commands import show_plan
    from drsft.sizing.estimate import Prices

    run_config = load_config(config, overrides or ())
    calibration = find_run(calibrate) if calibrate else open_run(run_config)
    prices = Prices(gpu_hour=gpu_hour, cpu_hour=cpu_hour, gb_month=gb_month)
    show_plan(run_config, calibration, prices, Console(width=None))


@app.command()
def inspect(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, its s3:// URL, or a CONFIG.")],
    overrides: Overrides = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many records; 0 for the summary alone.")] = 10,
    source: Annotated[
        Source | None, typer.Option(help="Records whose trained text is of this source.")
    ] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Records with an attempt of this outcome.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Records with an attempt judged so.")] = "",
    problem: Annotated[
        str, typer.Option(metavar="ID", help="The record of this problem (or start of it).")
    ] = "",
    attempts: Annotated[bool, typer.Option("--attempts", help="Show every sample that was drawn.")] = False,
    heat: Annotated[bool, typer.Option("--heat", help="Show each token's φ, after drsft gap.")] = False,
) -> None:
    """Browse the records of a run: the expert's text beside what was kept, and why.

    Examples:  drsft inspect runs/quickstart-4f2a --source expert --limit 3

               drsft inspect s3://bucket/runs/gsm8k-4f2a --outcome wrong --reason "plain numbers" --attempts

               drsft inspect runs/quickstart-4f2a --problem 7c1e --heat
    """
    from drsft.browsing import Filters, browse
    from drsft.runs import find_run

    filters = Filters(source=source, outcome=outcome, reason=reason, problem_id=problem)
    browse(
        find_run(run, overrides or ()),
        filters,
        limit=limit,
        show_attempts=attempts,
        show_heat=heat,
        console=Console(),
    )


@app.command()
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - reads standard input.")],
    kind: Annotated[str, typer.Option(help="Verifier of rows that name none.")] = "math",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="For one row; past it: unjudged.")] = 5.0,
) -> None:
    """Judge rows of {"reference", "prediction", "kind"?}; each is printed again with "outcome" and "reason".

    Examples:  drsft verify answers.jsonl > judged.jsonl

               zcat samples.jsonl.gz | drsft verify - --kind numeric --workers 4
    """
    from drsft.verify.cli import verify_file

    verify_file(file, kind=kind, num_workers=workers, timeout_s=timeout_s)


@app.command()
def serve(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration of the service.")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8700,
) -> None:
    """Answer POST /rewrite on this machine, with a page at / to try it.

    Examples:  drsft serve serve/local.yaml

               drsft serve serve/local.yaml target.model=/models/mine --port 9000
    """
    from drsft.configfile import load_settings
    from serve.local import serve_here
    from serve.settings import ServeConfig

    serve_here(load_settings(ServeConfig, config, overrides or ()), host=host, port=port)


@app.command("serve-key")
def serve_key(name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.")]) -> None:
    """Make a key for the service: the secret on stderr, its line for the keys file on stdout.

    Example:  drsft serve-key annotators >> keys
    """
    from serve.auth import make_key

    secret, line = make_key(name)
    print(f"the key of {name}, shown this once: {secret}", file=sys.stderr)
    print(line)


@app.command("config")
def config_reference() -> None:
    """Print the reference of all keys, as Markdown.

    Example:  drsft config > docs/configuration.md
    """
    from drsft.config.reference import reference
    from serve.settings import ServeConfig

    print(
        reference({"Configuration of a run": RunConfig, "Configuration of the service": ServeConfig}), end=""
    )


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Ends with 0, or as docs/jobs.md says: 1 failed, 2 a user's mistake, 3 busy, 130 Ctrl-C, 143 SIGTERM."""
    try:
        app()
    except DrsftError as error:
        _tell(f"error: {error}", logging.ERROR)
        sys.exit(error.exit_code)


def _tell(line: str, level: int) -> None:
    stream = JsonStream(sys.stderr, level=level) if wants_json() else sys.stderr
    stream.write(f"{line}\n")


if __name__ == "__main__":
    main()
