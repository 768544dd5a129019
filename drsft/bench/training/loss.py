"""Measures the fused loss with its backward against full logits, in time and memory.

Every measurement is a process of its own, so that its peak memory is its own; the memory of importing torch
and making the inputs is subtracted. "Full logits" is what a plain trainer does, including DFT's weight; it
computes no entropy, while the fused loss does. "PyTorch's chunks" is PyTorch's own `linear_cross_entropy`,
with the options that make it compute the logits of a few tokens at a time; it is the plain cross-entropy,
without weights or entropy.

    python -m drsft.bench.training.loss full|chunks|fused TOKENS VOCAB HIDDEN THREADS    one measurement
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import linear_cross_entropy

from drsft.bench.subprocesses import last_json_line, run_side
from drsft.config.objectives import Dft
from drsft.errors import StageError
from drsft.objectives.head import Head
from drsft.objectives.loss import LossRequest, fused_loss
from drsft.process.memory import peak_rss_mib

__all__ = ["LossBench", "Measurement", "Shape", "bench_loss", "print_bench"]

SWEEP_TOKENS = (1024, 4096, 16384, 32768)
SWEEP_VOCAB = (8192, 32768, 152064)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    tokens: int
    vocab: int
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    seconds: float
    mb: float  # MiB of resident memory above the inputs, gradients included
    loss: float
    gradient_norm: float  # of the head


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBench:
    """Times and memory in interleaved rounds at one shape, and of the fused loss at other shapes."""

    shape: Shape
    full: tuple[Measurement, ...]
    chunks: tuple[Measurement, ...]
    fused: tuple[Measurement, ...]
    sweep: tuple[tuple[Shape, Measurement], ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """For each round, the time of the fused loss divided by that of full logits."""
        return _ratios(self.fused, self.full)

    @property
    def ratios_to_chunks(self) -> tuple[float, ...]:
        """For each round, the time of the fused loss divided by that of PyTorch's own chunked loss,
        `linear_cross_entropy`.
        """
        return _ratios(self.fused, self.chunks)


def _ratios(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> tuple[float, ...]:
    return tuple(one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True))


def bench_loss(shape: Shape, *, num_rounds: int, threads: int, with_sweep: bool = True) -> LossBench:
    full, chunks, fused = [], [], []
    for _ in range(num_rounds):
        full.append(_measured("full", shape, threads))
        chunks.append(_measured("chunks", shape, threads))
        fused.append(_measured("fused", shape, threads))
    shapes = [Shape(tokens=tokens, vocab=shape.vocab, hidden=shape.hidden) for tokens in SWEEP_TOKENS]
    shapes += [Shape(tokens=shape.tokens, vocab=vocab, hidden=shape.hidden) for vocab in SWEEP_VOCAB]
    sweep = [(one, _measured("fused", one, threads)) for one in shapes] if with_sweep else []
    return LossBench(
        shape=shape, full=tuple(full), chunks=tuple(chunks), fused=tuple(fused), sweep=tuple(sweep)
    )


def print_bench(bench: LossBench, console: Console | None = None) -> None:
    console = console or Console()
    shape = bench.shape
    title = f"{shape.tokens:,} tokens × {shape.vocab:,} vocabulary × hidden {shape.hidden}, fp32, CPU"
    table = Table("loss and backward", "s, median", "min", "max", "MB above inputs", "loss", title=title)
    sides = {
        "full logits, no entropy": bench.full,
        "PyTorch's chunks, cross-entropy": bench.chunks,
        "fused, with entropy": bench.fused,
    }
    for name, rounds in sides.items():
        seconds = [one.seconds for one in rounds]
        table.add_row(
            name,
            *(f"{function(seconds):.2f}" for function in (statistics.median, min, max)),
            f"{max(one.mb for one in rounds):,.0f}",
            f"{rounds[0].loss:.9f}",
        )
    for name, ratios in (("full logits", bench.ratios), ("PyTorch's chunks", bench.ratios_to_chunks)):
        figures = (f"{function(ratios):.2f}" for function in (statistics.median, min, max))
        table.add_row(f"fused, of {name} in a round", *figures)
    console.print(table)
    if bench.sweep:
        sweep = Table("fused: tokens", "vocabulary", "full logits would be, MB", "MB above inputs", "s")
        for one, found in bench.sweep:
            logits_mb = one.tokens * one.vocab * 4 / 2**20
            sweep.add_row(
                f"{one.tokens:,}",
                f"{one.vocab:,}",
                f"{logits_mb:,.0f}",
                f"{found.mb:,.0f}",
                f"{found.seconds:.1f}",
            )
        console.print(sweep)


def _measured(side: str, shape: Shape, threads: int) -> Measurement:
    arguments = [side, *map(str, (shape.tokens, shape.vocab, shape.hidden, threads))]
    command = [sys.executable, "-m", "drsft.bench.training.loss", *arguments]
    return Measurement(**last_json_line(run_side(command, num_threads=threads)))


def _measure(side: str, shape: Shape) -> Measurement:
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(shape.tokens, shape.hidden, generator=generator).requires_grad_()
    weight_VD = torch.randn(shape.vocab, shape.hidden, generator=generator).mul_(0.05).requires_grad_()
    labels_N = torch.randint(0, shape.vocab, (shape.tokens,), generator=generator)
    loss_of = {"full": _full_logits, "chunks": _pytorch_chunks, "fused": _fused}[side]
    # A small loss first, on separate tensors, loads the libraries' kernels.
    loss_of(torch.randn(8, 16).requires_grad_(), torch.randn(64, 16).requires_grad_(), labels_N[:8] % 64)
    before_mib = peak_rss_mib()
    started_s = time.perf_counter()
    loss = loss_of(hidden_ND, weight_VD, labels_N)
    torch.autograd.backward(loss)
    seconds = time.perf_counter() - started_s
    if hidden_ND.grad is None or weight_VD.grad is None:
        raise StageError("the loss gave no gradient")
    return Measurement(
        seconds=seconds,
        mb=peak_rss_mib() - before_mib,
        loss=loss.item(),
        gradient_norm=weight_VD.grad.norm().item(),
    )


def _full_logits(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
    logp_N = (hidden_ND @ weight_VD.T).log_softmax(-1).gather(-1, labels_N[:, None])[:, 0]
    return -(logp_N.detach().exp() * logp_N).mean()


def _pytorch_chunks(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
    loss: Tensor = linear_cross_entropy(
        hidden_ND, weight_VD, labels_N, options=torch.nn.LinearCrossEntropyOptions()
    )
    return loss


def _fused(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
    request = LossRequest(num_loss_tokens=len(labels_N), objective=Dft())
    return fused_loss(hidden_ND, Head(weight_VD=weight_VD), labels_N, request).loss


def _main(arguments: Sequence[str]) -> None:
    side, *numbers = arguments
    tokens, vocab, hidden, threads = map(int, numbers)
    torch.set_num_threads(threads)
    print(json.dumps(asdict(_measure(side, Shape(tokens=tokens, vocab=vocab, hidden=hidden)))))


if __name__ == "__main__":
    _main(sys.argv[1:])
