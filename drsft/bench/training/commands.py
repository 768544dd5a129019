"""drsft bench of what learns and measures: the loss, training, the gap, the experiment."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from drsft.errors import ConfigError

__all__ = ["learning_app"]

learning_app = typer.Typer()
PeerPython = Annotated[Path, typer.Option(metavar="PATH", help="A Python that has the peer: make peers.")]


@learning_app.command("loss")
def bench_the_loss(
    tokens: Annotated[int, typer.Option(min=1, help="Loss tokens.")] = 4096,
    vocab: Annotated[int, typer.Option(min=2, help="Size of the vocabulary.")] = 152_064,
    hidden: Annotated[int, typer.Option(min=1, help="Size of the hidden states.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each side.")] = 2,
    sweep: Annotated[bool, typer.Option(help="Also other numbers of tokens and vocabularies.")] = True,
) -> None:
    """The fused loss with its backward against full logits, in time and memory, each in its own process."""
    from drsft.bench.training.loss import Shape, bench_loss, print_bench

    shape = Shape(tokens=tokens, vocab=vocab, hidden=hidden)
    print_bench(bench_loss(shape, num_rounds=rounds, threads=threads, with_sweep=sweep))


@learning_app.command("parity")
def bench_the_parity() -> None:
    """One step's gradient for every way to split its work, against the definition; ends with 1 above 1e-5."""
    from drsft.bench.training.parity import bench_parity, print_parity

    found = bench_parity()
    print_parity(found)
    if max(error for one in found for error in one.errors.values()) > 1e-5:
        raise typer.Exit(1)


@learning_app.command("train")
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
    layout: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one, as 'trl padded'; may be repeated."),
    ] = None,
    activation_checkpointing: Annotated[bool, typer.Option(help="On both sides.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of each side.")] = 2,
) -> None:
    """The training step against TRL's SFTTrainer: speed, memory and the same losses.

    Example:  drsft bench train --data gsm8k_train.jsonl.gz --objective dft
    """
    from drsft.bench.training.train import LAYOUTS, bench_train, print_bench
    from drsft.bench.training.train_data import ModelShape, Work

    work = Work(
        num_steps=steps,
        batch_examples=batch,
        micro_batch_examples=micro_batch,
        seq_len=seq_len,
        activation_checkpointing=activation_checkpointing,
        num_threads=threads,
    )
    unknown = set(layout or ()) - {str(side) for side in LAYOUTS}
    if unknown:
        raise ConfigError(f"--layout {unknown.pop()!r}: known are {', '.join(map(str, LAYOUTS))}")
    shape = ModelShape(vocab_size=vocabulary, hidden_size=hidden_size, num_layers=layers)
    print_bench(
        bench_train(
            objective=objective,
            peer_python=peer_python,
            data=data,
            shape=shape,
            work=work,
            num_rounds=rounds,
            layouts=[side for side in LAYOUTS if not layout or str(side) in layout],
            on_measured=lambda side, measured: print(
                f"{side}: {measured.tokens_per_s:,.0f} tokens/s, {measured.peak_rss_mb:,.0f} MB",
                file=sys.stderr,
                flush=True,
            ),
        )
    )


@learning_app.command("gap")
def bench_gap_scoring(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    rows: Annotated[int, typer.Option(min=16, help="Rows of a round.")] = 800,
    memory: Annotated[bool, typer.Option(help="Also peak memory over tokens and vocabulary.")] = True,
) -> None:
    """Scoring for the gap report against one row at a time with full logits, in the same run."""
    from drsft.bench.training.gap_scoring import bench_gap, bench_gap_memory, print_bench, print_memory

    for bench in bench_gap(num_rounds=rounds, num_rows=rows):
        print_bench(bench)
    if memory:
        print_memory(list(bench_gap_memory()))


@learning_app.command("theorem")
def bench_the_theorem(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A rewritten run: folder, s3:// URL or CONFIG.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
) -> None:
    """Whether the model's own samples at temperature 1 have a mean phi of zero, and what has not.

    Scores every sample of a run's first waves, which were drawn whatever became of the others.

    Example:  drsft bench theorem runs/quickstart-4f2a
    """
    from drsft.bench.theorem import bench_theorem, print_theorem
    from drsft.run.run import find_run

    print_theorem(bench_theorem(find_run(run, overrides or ())))


@learning_app.command("recommendation")
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


@learning_app.command("coverage")
def bench_the_coverage(
    runs: Annotated[int, typer.Option(min=100, help="Simulations of each design.")] = 10_000,
) -> None:
    """How often the evaluation's 95 % intervals hold the truth, by simulation; about two minutes.

    Example:  drsft bench coverage --runs 2000
    """
    from drsft.bench.coverage import DESIGNS, measure_coverage, print_coverage

    print_coverage([measure_coverage(design, num_runs=runs) for design in DESIGNS], num_runs=runs)


@learning_app.command("report")
def bench_the_report(
    rows: Annotated[int, typer.Option(min=4, help="Rows that the page carries.")] = 10_000,
    tokens: Annotated[int, typer.Option(min=1, help="Of each text.")] = 100,
    attempts: Annotated[int, typer.Option(min=1, help="At each problem.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh pages; medians are printed.")] = 5,
) -> None:
    """How large the report is with many rows, and how fast a headless Chromium opens and searches it.

    Examples:  drsft bench report

               drsft bench report --tokens 800 --attempts 8
    """
    from drsft.bench.report import bench_report, print_openings

    print_openings(*bench_report(num_rows=rows, num_tokens=tokens, num_attempts=attempts, num_rounds=rounds))


@learning_app.command("experiment")
def bench_the_experiment(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Of a run that trains a matrix of arms.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
) -> None:
    """What a matrix of arms says about the papers' claims, as Markdown; trains and samples nothing.

    Examples:  drsft bench experiment jobs/configs/matrix.yaml

               drsft bench experiment jobs/configs/matrix.yaml train.num_epochs=1
    """
    from drsft.bench.experiment import describe_experiment
    from drsft.config.configfile import load_config
    from drsft.run.run import open_run

    run_config = load_config(config, overrides or ())
    print(describe_experiment(run_config, open_run(run_config)))
