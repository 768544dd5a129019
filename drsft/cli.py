"""The command line. A user's mistake is one line on stderr and exit code 2, never a traceback."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from drsft import __version__
from drsft.config import RunConfig
from drsft.configfile import load_config
from drsft.doctor.cli import doctor_app
from drsft.errors import ConfigError, DrsftError
from drsft.records import Outcome, Source

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Rewrite expert solutions into data that the target model could have written, then fine-tune on it.",
)

bench_app = typer.Typer(no_args_is_help=True, help="Side-by-side measurements, the peer in the same run.")
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
        print(run_pipeline(run_config, stages=tuple(stages or STAGES), console=Console(stderr=True)))
    return run_config


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command in order, with their usual exit codes."""
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except KeyboardInterrupt as stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
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
def run(config: Config, overrides: Overrides = None) -> None:
    """Rewrite, train, evaluate and report; the same command again goes on where it stopped.

    Examples:  drsft run jobs/configs/quickstart.yaml

               drsft run jobs/configs/gsm8k.yaml problems.limit=200 storage=s3://bucket/runs
    """
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
def report(config: Config, overrides: Overrides = None) -> None:
    """Write the report again from what the run has so far."""
    _run(config, overrides, ("report",))


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
) -> None:
    """Browse the records of a run: the expert's text beside what was kept, and why.

    Examples:  drsft inspect runs/quickstart-4f2a --source expert --limit 3

               drsft inspect s3://bucket/runs/gsm8k-4f2a --outcome wrong --reason "plain numbers" --attempts
    """
    from drsft.browsing import Filters, browse
    from drsft.runs import find_run

    filters = Filters(source=source, outcome=outcome, reason=reason, problem_id=problem)
    browse(find_run(run, overrides or ()), filters, limit=limit, show_attempts=attempts, console=Console())


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


@bench_app.command("verify")
def bench_verification(
    cases: Annotated[Path, typer.Argument(help="Labelled cases: JSON lines, also .gz.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes on each side.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
) -> None:
    """The verifier against math-verify, on the same cases in the same run."""
    from drsft.bench.verify import bench_verify, print_bench

    print_bench(bench_verify(cases, num_workers=workers, num_rounds=rounds))


@bench_app.command("rewrite")
def bench_rewriting(
    model: Annotated[
        Literal["random", "embedded"],
        typer.Option(help="28M random weights, where the engine is the bottleneck, or the tiny model."),
    ] = "random",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 512,
    threads: Annotated[int, typer.Option(min=1, help="Engine threads of the random model.")] = 2,
) -> None:
    """The whole rewriting job against vllm.LLM.generate, with the same prompts and sampling.

    Examples:  drsft bench rewrite

               drsft bench rewrite --model embedded --rounds 9
    """
    from drsft.bench.rewrite import bench_rewrite, print_bench, print_round

    console, done = Console(), []
    for one in bench_rewrite(model, num_rounds=rounds, num_problems=problems, threads=threads):
        print_round(one, console)
        done.append(one)
    print_bench(model, done, console)


@bench_app.command("cascade")
def bench_the_cascade(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 512,
    wave: Annotated[int, typer.Option(min=1, max=4, help="Samples that drsft draws at once.")] = 1,
) -> None:
    """The cascade against ray.data.llm twice, and against the same engine with a barrier between passes.

    Two in five problems are solved alone; drsft/bench/acceptance.py states which samples are right.
    """
    from drsft.bench.cascade import bench_cascade, print_bench, print_round

    console, done = Console(), []
    for one in bench_cascade(num_rounds=rounds, num_problems=problems, wave_size=wave):
        print_round(one, console)
        done.append(one)
    print_bench(done, console)


PeerPython = Annotated[Path, typer.Option(metavar="PATH", help="A Python that has the peer: make peers.")]


@bench_app.command("train")
def bench_training(
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows with question and solution; else random ids.")
    ] = None,
    peer_python: PeerPython = Path(".venv-peers/bin/python"),
    objective: Annotated[Literal["sft", "dft"], typer.Option(help="TRL calls sft nll.")] = "sft",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    steps: Annotated[int, typer.Option(min=2, help="Steps of a measurement; the first warms up.")] = 4,
    batch: Annotated[int, typer.Option(min=1, help="Texts of a step.")] = 32,
    micro_batch: Annotated[int, typer.Option(min=1, help="Texts of a forward.")] = 8,
    seq_len: Annotated[int, typer.Option(min=16, help="Tokens of a packed row.")] = 1024,
    vocabulary: Annotated[int, typer.Option(min=8192)] = 32_768,
    hidden_size: Annotated[int, typer.Option(min=128)] = 256,
    layers: Annotated[int, typer.Option(min=1)] = 4,
    activation_checkpointing: Annotated[bool, typer.Option(help="On both sides.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of each side.")] = 2,
) -> None:
    """The training step against TRL's SFTTrainer: speed, memory and the same losses.

    Example:  drsft bench train --data gsm8k_train.jsonl.gz --objective dft
    """
    from drsft.bench.train import bench_train, print_bench
    from drsft.bench.train_data import ModelShape, Work

    work = Work(
        num_steps=steps,
        batch_examples=batch,
        micro_batch_examples=micro_batch,
        seq_len=seq_len,
        activation_checkpointing=activation_checkpointing,
        num_threads=threads,
    )
    shape = ModelShape(vocab_size=vocabulary, hidden_size=hidden_size, num_layers=layers)
    print_bench(
        bench_train(
            objective=objective,
            peer_python=peer_python,
            data=data,
            shape=shape,
            work=work,
            num_rounds=rounds,
        )
    )


@bench_app.command("parity")
def bench_the_parity() -> None:
    """One step's gradient for every way to split its work, against the definition; ends with 1 above 1e-5."""
    from drsft.bench.parity import bench_parity, print_parity

    found = bench_parity()
    print_parity(found)
    if max(error for one in found for error in one.errors.values()) > 1e-5:
        raise typer.Exit(1)


@bench_app.command("orchestration")
def bench_the_orchestration(
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    peer_python: PeerPython = Path(".venv-peers/bin/python"),
) -> None:
    """The whole rewriting job without a model: what drsft itself costs a problem, beside distilabel.

    Examples:  drsft bench orchestration --problems 10000

               drsft bench orchestration --problems 1000000 --rounds 1 --peer-python none
    """
    from drsft.bench.orchestration import bench_orchestration, bench_peer, print_bench
    from drsft.bench.peers import HOW_TO_GET_PEERS, has_package

    has_peer = has_package(peer_python, "distilabel")
    if not has_peer:
        print(f"distilabel is not measured: {HOW_TO_GET_PEERS}", file=sys.stderr)
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(bench_orchestration(problems))
        if has_peer:
            peer.append(bench_peer(problems, peer_python))
    print_bench(ours, peer)


@bench_app.command("serve")
def bench_the_service(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="As of drsft serve.")] = Path(
        "serve/local.yaml"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of throughput.")] = 5,
    requests: Annotated[int, typer.Option(min=40, help="Requests of a round.")] = 200,
    faults: Annotated[bool, typer.Option("--faults", help="Overload and kill it instead.")] = False,
    overload_s: Annotated[float, typer.Option(min=1, help="Seconds of ten times the load.")] = 60,
) -> None:
    """POST /rewrite against AsyncLLM in process and vLLM's own server, on the same model in the same run.

    Examples:  drsft bench serve

               drsft bench serve --faults
    """
    if faults:
        from serve.bench.faults import bench_faults, print_faults

        print_faults(bench_faults(config, overload_s=overload_s))
    else:
        from serve.bench.speed import bench_serve, print_bench

        print_bench(bench_serve(config, num_rounds=rounds, num_requests=requests))


@bench_app.command("simulation")
def bench_a_simulation(
    problems: Annotated[int, typer.Option(min=1)] = 1_000_000,
    engines: Annotated[int, typer.Option(min=1)] = 64,
    seats: Annotated[int, typer.Option(min=1, help="Samples that an engine serves at once.")] = 256,
    sample_s: Annotated[float, typer.Option(min=0.001, help="Seconds of an average sample.")] = 20.0,
    slow_share: Annotated[float, typer.Option(min=0, max=1, help="Of requests; ten times as slow.")] = 0.01,
    death_every_s: Annotated[
        float, typer.Option(min=1, help="Between the deaths of single engines.")
    ] = 600.0,
    shards_in_flight: Annotated[int, typer.Option(min=1, help="Of an actor.")] = 16,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also without each trouble, and other settings.")
    ] = False,
) -> None:
    """How busy the rewriting keeps many engines, on a virtual clock: stragglers, deaths, the end's tail.

    Examples:  drsft bench simulation                         (a million problems, about six minutes)

               drsft bench simulation --problems 50000 --engines 8 --compare
    """
    from drsft.bench.simulated_cluster import ClusterSettings
    from drsft.bench.simulation import print_simulations, seconds_per_token, simulate, variants

    settings = ClusterSettings(
        num_engines=engines,
        seats=seats,
        seconds_per_token=seconds_per_token(sample_s),
        slow_share=slow_share,
        seconds_between_deaths=death_every_s,
        shards_in_flight=shards_in_flight,
    )
    cases = dict(variants(settings)) if compare else {"as asked": settings}
    print_simulations([simulate(name, case, num_problems=problems) for name, case in cases.items()])


@bench_app.command("loss")
def bench_the_loss(
    tokens: Annotated[int, typer.Option(min=1, help="Loss tokens.")] = 4096,
    vocab: Annotated[int, typer.Option(min=2, help="Size of the vocabulary.")] = 152_064,
    hidden: Annotated[int, typer.Option(min=1, help="Size of the hidden states.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each side.")] = 2,
    sweep: Annotated[bool, typer.Option(help="Also other numbers of tokens and vocabularies.")] = True,
) -> None:
    """The fused loss with its backward against full logits, in time and memory, each in its own process."""
    from drsft.bench.loss import Shape, bench_loss, print_bench

    shape = Shape(tokens=tokens, vocab=vocab, hidden=hidden)
    print_bench(bench_loss(shape, num_rounds=rounds, threads=threads, with_sweep=sweep))


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


@bench_app.command("hinted")
def bench_hinted_decoding(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    problems: Annotated[int, typer.Option(min=1, help="Problems in flight at once.")] = 256,
    alone: Annotated[int, typer.Option(min=1, help="Of these, decoded one by one too.")] = 50,
    stressed: Annotated[int, typer.Option(min=0, help="Of these, decoded under every stress.")] = 40,
) -> None:
    """Hinted Decoding in both engines against one problem at a time, and under stress.

    Example:  drsft bench hinted --rounds 5
    """
    from drsft.bench.hinted import bench_hinted, print_bench

    print_bench(
        bench_hinted(num_rounds=rounds, num_problems=problems, num_alone=alone, num_stressed=stressed)
    )


@bench_app.command("gap")
def bench_gap_scoring(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    rows: Annotated[int, typer.Option(min=16, help="Rows of a round.")] = 800,
    memory: Annotated[bool, typer.Option(help="Also peak memory over tokens and vocabulary.")] = True,
) -> None:
    """Scoring for the gap report against one row at a time with full logits, in the same run."""
    from drsft.bench.gap import bench_gap, bench_gap_memory, print_bench, print_memory

    for bench in bench_gap(num_rounds=rounds, num_rows=rows):
        print_bench(bench)
    if memory:
        print_memory(list(bench_gap_memory()))


@bench_app.command("theorem")
def bench_the_theorem(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A rewritten run: folder, s3:// URL or CONFIG.")],
    overrides: Overrides = None,
) -> None:
    """Whether the model's own samples at temperature 1 have a mean phi of zero, and what has not.

    Scores every sample of a run's first waves, which were drawn whatever became of the others.

    Example:  drsft bench theorem runs/quickstart-4f2a
    """
    from drsft.bench.theorem import bench_theorem, print_theorem
    from drsft.runs import find_run

    print_theorem(bench_theorem(find_run(run, overrides or ())))


@bench_app.command("recommendation")
def bench_the_recommendation(
    file: Annotated[Path, typer.Argument(help="JSON lines; trainings that it holds are not done again.")],
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 3,
    budget_s: Annotated[float, typer.Option(help="Start no further training after so many seconds.")] = 3600,
    learning_rate: Annotated[float, typer.Option(min=0)] = 3e-4,
) -> None:
    """Whether the recommended objective wins: gaps of several sizes, each objective trained on each."""
    from drsft.bench.recommendation import bench_recommendation, print_recommendation

    rows = bench_recommendation(file, num_seeds=seeds, budget_s=budget_s, learning_rate=learning_rate)
    print_recommendation(list(rows))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Ends with 0, 2 for a user's mistake, 1 for a failed stage, 130 for Ctrl-C, 143 for SIGTERM."""
    try:
        app()
    except DrsftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
