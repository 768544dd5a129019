"""drsft bench of what learns and scores: the loss, training, the gap."""

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
    rows: Annotated[int, typer.Option(min=16, max=900, help="Rows of a round.")] = 800,
    memory: Annotated[bool, typer.Option(help="Also peak memory over tokens and vocabulary.")] = True,
) -> None:
    """Scoring for the gap report against one row at a time with full logits, in the same run."""
    from drsft.bench.training.gap_scoring import bench_gap, bench_gap_memory, print_bench, print_memory

    for bench in bench_gap(num_rounds=rounds, num_rows=rows):
        print_bench(bench)
    if memory:
        print_memory(list(bench_gap_memory()))
