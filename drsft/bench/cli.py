"""The commands of `drsft bench`.

Each times a part of drsft, most of them beside another way to do the same work in the same run: another tool,
a simple implementation or another build of drsft.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from drsft.errors import ConfigError

__all__ = ["bench_app"]

bench_app = typer.Typer(
    no_args_is_help=True,
    help="Time parts of drsft, most of them beside another tool or a simpler way, in the same run.",
)
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="random|embedded|DIR",
        help="28M random weights, where the engine is the bottleneck, the tiny model, or a model's folder.",
    ),
]
PeerPython = Annotated[Path, typer.Option(metavar="PATH", help="A Python that has the peer: make peers.")]


@bench_app.command("verify")
def bench_verification(
    cases: Annotated[list[Path], typer.Argument(help="Files of labelled cases: JSON lines, also .gz.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes on each side.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
) -> None:
    """Compare the verifier with math-verify, on the same cases in the same run.

    Examples:  drsft bench verify cases.jsonl

               drsft bench verify sets/*.jsonl --rounds 1
    """
    from drsft.bench.verifying.verify import bench_verify, print_bench

    print_bench(bench_verify(*cases, num_workers=workers, num_rounds=rounds))


@bench_app.command("intake")
def bench_the_intake(
    data: Annotated[
        list[Path], typer.Option(metavar="FILE", help="JSON lines (.gz too) of problem, solution and answer.")
    ],
    rows: Annotated[int, typer.Option(min=1, help="Rows to read; copies get other numbers.")] = 100_000,
    tokenizer: Annotated[
        str, typer.Option(metavar="DIR", help="A model's folder, for its tokenizer.")
    ] = "embedded",
    max_model_len: Annotated[int, typer.Option(min=16, help="The target.max_model_len to use.")] = 4096,
    peer_checkout: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another checkout of drsft, read beside this one.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
) -> None:
    """Time reading, checking and sharding of many problems, also with another checkout's build.

    Examples:  drsft bench intake --data gsm8k_train.jsonl.gz --data math500.jsonl.gz

               drsft bench intake --data gsm8k_train.jsonl.gz --peer-checkout ../drsft-before
    """
    from drsft.bench.intake.intake import bench_intake, print_bench

    done = []
    for one in bench_intake(
        data,
        num_rows=rows,
        model=tokenizer,
        max_model_len=max_model_len,
        peer=peer_checkout,
        num_rounds=rounds,
    ):
        beside = "" if one.peer is None else f", the other build {one.peer.rows_per_s:,.0f}"
        print(f"this build reads {one.ours.rows_per_s:,.0f} rows/s{beside}", file=sys.stderr, flush=True)
        done.append(one)
    print_bench(done)


@bench_app.command("start")
def bench_the_start(
    data: Annotated[
        list[Path], typer.Option(metavar="FILE", help="JSON lines (.gz too) of problem, solution and answer.")
    ],
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Rows of a file, for each size. [default: 32]"),
    ] = None,
    model: ModelOption = "embedded",
    peer_checkout: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another checkout of drsft, started beside this one.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
) -> None:
    """Time from the command to the first committed shard, for files of several sizes.

    Examples:  drsft bench start --data gsm8k_train.jsonl.gz --rows 10000 --rows 1000000

               drsft bench start --data gsm8k_train.jsonl.gz --model DIR --peer-checkout ../drsft-before
    """
    from drsft.bench.rewriting.starting import bench_start, print_bench

    done = []
    for one in bench_start(data, model=model, sizes=rows or [32], peer=peer_checkout, num_rounds=rounds):
        print(f"{one.num_rows:,} rows, {one.build} build: {one.seconds:.1f} s", file=sys.stderr, flush=True)
        done.append(one)
    print_bench(done)


@bench_app.command("rewrite")
def bench_rewriting(
    model: ModelOption = "random",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 512,
) -> None:
    """Compare the whole rewriting job with vllm.LLM.generate, with the same prompts and sampling.

    Examples:  drsft bench rewrite

               drsft bench rewrite --model embedded --rounds 9

               drsft bench rewrite --model models/smollm2-135m-instruct --problems 64
    """
    from drsft.bench.rewriting.rewrite import bench_rewrite, print_bench, print_round

    console, done = Console(), []
    for one in bench_rewrite(model, num_rounds=rounds, num_problems=problems):
        print_round(one, console)
        done.append(one)
    print_bench(model, done, console)


@bench_app.command("cascade")
def bench_the_cascade(
    model: ModelOption = "embedded",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 512,
    wave: Annotated[int, typer.Option(min=1, max=4, help="Samples that drsft draws at once.")] = 1,
) -> None:
    """Compare the cascade with ray.data.llm run twice, and with one engine and a barrier between passes.

    Two in five problems are solved alone; drsft/bench/rewriting/acceptance.py states which samples are right.

    Examples:  drsft bench cascade

               drsft bench cascade --model random --problems 256
    """
    from drsft.bench.rewriting.cascade import bench_cascade, print_bench, print_round

    console, done = Console(), []
    for one in bench_cascade(model, num_rounds=rounds, num_problems=problems, wave_size=wave):
        print_round(one, console)
        done.append(one)
    print_bench(done, console)


@bench_app.command("orchestration")
def bench_the_orchestration(
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    peer_python: PeerPython = Path(".venv-peers/bin/python"),
) -> None:
    """Measure the rewriting job without a model: drsft's own cost per problem, compared with distilabel.

    Examples:  drsft bench orchestration --problems 10000

               drsft bench orchestration --problems 1000000 --rounds 1 --peer-python none
    """
    from drsft.bench.peers import HOW_TO_GET_PEERS, has_package
    from drsft.bench.rewriting.orchestration import bench_orchestration, bench_peer, print_bench

    has_peer = has_package(peer_python, "distilabel")
    if not has_peer:
        print(f"distilabel is not measured: {HOW_TO_GET_PEERS}", file=sys.stderr)
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(bench_orchestration(problems))
        if has_peer:
            peer.append(bench_peer(problems, peer_python))
    print_bench(ours, peer)


@bench_app.command("grounding")
def bench_the_grounding_check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration of drsft run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
) -> None:
    """Measure the time that the grounding check adds to the guided stage, for a configuration's model.

    Examples:  drsft bench grounding jobs/configs/quickstart.yaml problems.limit=300

               drsft bench grounding jobs/configs/real-model.yaml --rounds 3
    """
    from drsft.bench.rewriting.grounding_cost import bench_grounding, print_bench
    from drsft.config.configfile import load_config

    done = []
    for one in bench_grounding(load_config(config, overrides or []), num_rounds=rounds):
        shares = f"{one.share:.3f} of the guided phase's time, {one.cpu_share:.3f} of its processor time"
        print(f"the check takes {shares}", file=sys.stderr, flush=True)
        done.append(one)
    print_bench(done)


@bench_app.command("serve")
def bench_the_service(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration of drsft serve.")] = Path(
        "serve/local.yaml"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of throughput.")] = 5,
    requests: Annotated[int, typer.Option(min=40, help="Requests of a round, 32 in flight.")] = 200,
    single: Annotated[int, typer.Option(min=22, help="Requests one at a time; 20 warm up.")] = 200,
    model: ModelOption = "embedded",
) -> None:
    """Compare POST /rewrite with AsyncLLM in process and with vLLM's server, on the same model.

    Examples:  drsft bench serve

               drsft bench serve --model models/smollm2-135m-instruct --requests 96 --single 60
    """
    from drsft.bench.serving.speed import bench_serve, print_bench

    bench = bench_serve(
        config,
        num_rounds=rounds,
        num_requests=requests,
        num_single=single,
        model=model,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print_bench(bench)


@bench_app.command("hinted")
def bench_hinted_decoding(
    model: ModelOption = "embedded",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    problems: Annotated[int, typer.Option(min=1, help="Problems in flight at once.")] = 256,
    alone: Annotated[int, typer.Option(min=1, help="Problems decoded one by one, too.")] = 50,
    stressed: Annotated[int, typer.Option(min=0, help="Problems decoded under every stress.")] = 40,
) -> None:
    """Compare both engines of Hinted Decoding with one problem at a time, and test them under stress.

    Examples:  drsft bench hinted --rounds 5

               drsft bench hinted --model models/smollm2-135m-instruct --problems 32 --alone 8 --stressed 0
    """
    from drsft.bench.hinted.throughput import bench_hinted, print_bench

    print_bench(
        bench_hinted(
            model=model,
            num_rounds=rounds,
            num_problems=problems,
            num_alone=alone,
            num_stressed=stressed,
        )
    )


@bench_app.command("loss")
def bench_the_loss(
    tokens: Annotated[int, typer.Option(min=1, help="Loss tokens.")] = 4096,
    vocab: Annotated[int, typer.Option(min=2, help="Size of the vocabulary.")] = 152_064,
    hidden: Annotated[int, typer.Option(min=1, help="Size of the hidden states.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each side.")] = 2,
    sweep: Annotated[
        bool, typer.Option(help="Measure other numbers of tokens and vocabularies, too.")
    ] = True,
) -> None:
    """Compare the fused loss and its backward with full logits, in time and memory."""
    from drsft.bench.training.loss import Shape, bench_loss, print_bench

    shape = Shape(tokens=tokens, vocab=vocab, hidden=hidden)
    print_bench(bench_loss(shape, num_rounds=rounds, threads=threads, with_sweep=sweep))


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
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model's folder in place of random weights.")
    ] = None,
    vocabulary: Annotated[int, typer.Option(min=8192)] = 32_768,
    hidden_size: Annotated[int, typer.Option(min=128)] = 256,
    layers: Annotated[int, typer.Option(min=1)] = 4,
    layout: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run this layout only, as 'trl padded'; may be repeated."),
    ] = None,
    activation_checkpointing: Annotated[bool, typer.Option(help="On both sides.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each side.")] = 2,
) -> None:
    """Compare the training step with TRL's SFTTrainer: speed, memory and equal losses.

    Examples:  drsft bench train --data gsm8k_train.jsonl.gz --objective dft

               drsft bench train --data gsm8k_train.jsonl.gz --model models/smollm2-135m-instruct --batch 8
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
        raise ConfigError(
            f"--layout {unknown.pop()!r} is not known; give one of: {', '.join(map(str, LAYOUTS))}"
        )
    shape = ModelShape(vocab_size=vocabulary, hidden_size=hidden_size, num_layers=layers)
    print_bench(
        bench_train(
            objective=objective,
            peer_python=peer_python,
            data=data,
            shape=shape,
            model=model,
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


@bench_app.command("gap")
def bench_gap_scoring(
    model: Annotated[
        str | None, typer.Option(metavar="DIR", help="A model's folder in place of ours.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    rows: Annotated[int, typer.Option(min=16, max=900, help="Rows of a round.")] = 800,
    memory: Annotated[bool, typer.Option(help="Measure peak memory over tokens and vocabulary, too.")] = True,
) -> None:
    """Compare scoring for the gap report with one row at a time and full logits."""
    from drsft.bench.training.gap_scoring import bench_gap, bench_gap_memory, print_bench, print_memory

    for bench in bench_gap(num_rounds=rounds, num_rows=rows, model=model):
        print_bench(bench)
    if memory:
        print_memory(list(bench_gap_memory()))
