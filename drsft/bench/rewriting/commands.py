"""drsft bench of what samples and judges: rewriting, Hinted Decoding, the service."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

__all__ = ["sampling_app"]

sampling_app = typer.Typer()
ModelOption = Annotated[
    Literal["random", "embedded"],
    typer.Option(help="28M random weights, where the engine is the bottleneck, or the tiny model."),
]
PeerPython = Annotated[Path, typer.Option(metavar="PATH", help="A Python that has the peer: make peers.")]


@sampling_app.command("verify")
def bench_verification(
    cases: Annotated[Path, typer.Argument(help="Labelled cases: JSON lines, also .gz.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes on each side.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
) -> None:
    """The verifier against math-verify, on the same cases in the same run."""
    from drsft.bench.verifying.verify import bench_verify, print_bench

    print_bench(bench_verify(cases, num_workers=workers, num_rounds=rounds))


@sampling_app.command("rewrite")
def bench_rewriting(
    model: ModelOption = "random",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 512,
) -> None:
    """The whole rewriting job against vllm.LLM.generate, with the same prompts and sampling.

    Examples:  drsft bench rewrite

               drsft bench rewrite --model embedded --rounds 9
    """
    from drsft.bench.rewriting.rewrite import bench_rewrite, print_bench, print_round

    console, done = Console(), []
    for one in bench_rewrite(model, num_rounds=rounds, num_problems=problems):
        print_round(one, console)
        done.append(one)
    print_bench(model, done, console)


@sampling_app.command("cascade")
def bench_the_cascade(
    model: ModelOption = "embedded",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 5,
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 512,
    wave: Annotated[int, typer.Option(min=1, max=4, help="Samples that drsft draws at once.")] = 1,
) -> None:
    """The cascade against ray.data.llm twice, and against the same engine with a barrier between passes.

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


@sampling_app.command("orchestration")
def bench_the_orchestration(
    problems: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    peer_python: PeerPython = Path(".venv-peers/bin/python"),
) -> None:
    """The whole rewriting job without a model: what drsft itself costs a problem, beside distilabel.

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


@sampling_app.command("serve")
def bench_the_service(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="As of drsft serve.")] = Path(
        "serve/local.yaml"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of throughput.")] = 5,
    requests: Annotated[int, typer.Option(min=40, help="Requests of a round.")] = 200,
    model: ModelOption = "embedded",
    faults: Annotated[bool, typer.Option("--faults", help="Overload and kill it instead.")] = False,
    overload_s: Annotated[float, typer.Option(min=1, help="Seconds of ten times the load.")] = 60,
) -> None:
    """POST /rewrite against AsyncLLM in process and vLLM's own server, on the same model in the same run.

    Examples:  drsft bench serve

               drsft bench serve --model random

               drsft bench serve --faults
    """
    if faults:
        from drsft.bench.serving.faults import bench_faults, print_faults

        say = partial(print, file=sys.stderr, flush=True)
        print_faults(*bench_faults(config, overload_s=overload_s, say=say))
    else:
        from drsft.bench.serving.speed import bench_serve, print_bench

        print_bench(bench_serve(config, num_rounds=rounds, num_requests=requests, model=model))


@sampling_app.command("hinted")
def bench_hinted_decoding(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are printed.")] = 3,
    problems: Annotated[int, typer.Option(min=1, help="Problems in flight at once.")] = 256,
    alone: Annotated[int, typer.Option(min=1, help="Of these, decoded one by one too.")] = 50,
    stressed: Annotated[int, typer.Option(min=0, help="Of these, decoded under every stress.")] = 40,
) -> None:
    """Hinted Decoding in both engines against one problem at a time, and under stress.

    Example:  drsft bench hinted --rounds 5
    """
    from drsft.bench.hinted.throughput import bench_hinted, print_bench

    print_bench(
        bench_hinted(num_rounds=rounds, num_problems=problems, num_alone=alone, num_stressed=stressed)
    )
