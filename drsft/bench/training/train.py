"""`drsft bench train`: compares drsft's training step with that of TRL's SFTTrainer.

Each measurement is a process of its own; in each round they run one after the other.

Both sides train the same random model on the same token ids in the same order, with the same optimiser and
schedule. SFTTrainer runs with its own loss, and with drsft's in its place (`drsft.objective_trainer`). On a
GPU, TRL applies the model's head to loss tokens alone, with a Triton kernel; on the CPU, to every position,
prompt and padding too. So the measured ratio holds for the CPU only.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

import drsft
from drsft.bench.subprocesses import last_json_line, run_side
from drsft.bench.training.train_data import (
    ModelShape,
    Work,
    draw_examples,
    read_examples,
    save_examples,
    save_model,
)
from drsft.errors import InputError
from drsft.policy.cache_size import model_shape

__all__ = ["LAYOUTS", "Measured", "Side", "TrainBench", "bench_train", "print_bench"]


@dataclass(frozen=True, slots=True, order=True)
class Side:
    name: str  # drsft, trl, or drsft in trl: its loss in TRL's trainer
    layout: str

    @property
    def module(self) -> str:
        return "drsft.bench.training.train_ours" if self.name == "drsft" else "drsft.bench.training.peer_trl"

    def __str__(self) -> str:
        return f"{self.name} {self.layout}"


OUR_LOSS = "drsft in trl"
LAYOUTS = (
    Side("drsft", "unpacked"),
    Side("drsft", "packed"),
    Side("trl", "padding-free"),
    Side("trl", "padded"),
    Side("trl", "packed"),
    Side(OUR_LOSS, "padding-free"),
    Side(OUR_LOSS, "padded"),
)
# Which layout of TRL each of ours is compared with, and what is compared
SPEED_RATIOS = (
    (LAYOUTS[0], LAYOUTS[2]),
    (LAYOUTS[1], LAYOUTS[2]),
    (LAYOUTS[5], LAYOUTS[2]),
    (LAYOUTS[6], LAYOUTS[3]),
)
MEMORY_RATIOS = (
    (LAYOUTS[0], LAYOUTS[2]),
    (LAYOUTS[0], LAYOUTS[3]),
    (LAYOUTS[1], LAYOUTS[4]),
    (LAYOUTS[5], LAYOUTS[2]),
    (LAYOUTS[6], LAYOUTS[3]),
)
EQUAL_BATCHES = (LAYOUTS[2], LAYOUTS[5], LAYOUTS[6])  # as those of LAYOUTS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The result of one process: loss of every step, non-padding tokens per second, peak memory.

    The rate does not include the first step.
    """

    losses: tuple[float, ...]
    tokens_per_s: float
    peak_rss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainBench:
    objective: str
    num_parameters: int
    runs: dict[Side, tuple[Measured, ...]]  # a round each

    def speedups(self, ours: Side, peer: Side) -> list[float]:
        """Returns the tokens per second of `ours` divided by those of `peer`, for each round."""
        pairs = zip(self.runs[ours], self.runs[peer], strict=True)
        return [mine.tokens_per_s / other.tokens_per_s for mine, other in pairs]

    def memory_ratio(self, ours: Side, peer: Side) -> float:
        """Returns the median peak memory of `ours` divided by that of `peer`."""
        mine, other = (statistics.median(run.peak_rss_mb for run in self.runs[side]) for side in (ours, peer))
        return mine / other

    def loss_error(self, peer: Side) -> float:
        """Returns the largest relative difference between the losses of drsft, unpacked, and of `peer`.

        Both must have had equal batches, as those of EQUAL_BATCHES have.
        """
        ours, others = self.runs[LAYOUTS[0]][0].losses, self.runs[peer][0].losses
        return max(abs(a / b - 1) for a, b in zip(ours, others, strict=True))


def bench_train(
    *,
    objective: str,
    peer_python: Path,
    data: Path | None,
    shape: ModelShape,
    model: Path | None = None,
    work: Work,
    num_rounds: int,
    layouts: Sequence[Side] = LAYOUTS,
    on_measured: Callable[[Side, Measured], None] = lambda side, measured: None,
) -> TrainBench:
    """Measures each of `layouts` once per round and returns all results.

    If `model`, a folder, is given, it is trained instead of random weights of `shape`, and `data` is
    tokenised by its tokenizer. If `data` is None, token ids are random. The paths, layout, objective and loss
    in `work` are replaced. Raises InputError if `peer_python` does not exist, or `data` has too few rows.
    """
    if not peer_python.is_file():
        raise InputError(f'{peer_python} does not exist; run "make peers" to install it')
    num_examples = work.batch_examples * (work.num_steps + 1)  # packed rows may take a little more
    examples = read_examples(data, num=num_examples, model=model) if data else draw_examples(num=num_examples)
    runs: dict[Side, list[Measured]] = {side: [] for side in layouts}
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as name:
        folder = Path(name)
        trained = model or folder / "model"
        num_parameters = (
            save_model(trained, shape) if model is None else model_shape(str(model)).num_parameters
        )
        save_examples(examples, folder / "examples.parquet")
        for _ in range(num_rounds):
            for side in layouts:
                mine = replace(
                    work,
                    model=str(trained.absolute()),
                    examples=str(folder / "examples.parquet"),
                    layout=side.layout,
                    objective=objective,
                    loss="drsft" if side.name == OUR_LOSS else "trl",
                )
                python = sys.executable if side.name == "drsft" else str(peer_python)
                measured = _measure(python, side, mine.write(folder / "work.json"), work.num_threads)
                runs[side].append(measured)
                on_measured(side, measured)
    return TrainBench(
        objective=objective,
        num_parameters=num_parameters,
        runs={side: tuple(measured) for side, measured in runs.items()},
    )


def _measure(python: str, side: Side, work: Path, num_threads: int) -> Measured:
    paths = [str(Path(drsft.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [python, "-m", side.module, str(work)]
    result = last_json_line(run_side(command, num_threads=num_threads, environment=environment))
    return Measured(**{**result, "losses": tuple(result["losses"])})


def print_bench(bench: TrainBench, console: Console | None = None) -> None:
    console = console or Console()
    num_rounds = len(next(iter(bench.runs.values())))
    title = f"{bench.objective}, {bench.num_parameters / 1e6:.1f}M parameters, {num_rounds} rounds"
    table = Table("", "tokens/s, median", "min", "max", "peak RSS, MB", title=title)
    for side, measured in bench.runs.items():
        speeds = [run.tokens_per_s for run in measured]
        memory = statistics.median(run.peak_rss_mb for run in measured)
        figures = [f"{f(speeds):,.0f}" for f in (statistics.median, min, max)]
        table.add_row(str(side), *figures, f"{memory:,.0f}")
    console.print(table)
    for ours, peer in SPEED_RATIOS:
        if {ours, peer} <= bench.runs.keys():
            ratios = bench.speedups(ours, peer)
            console.print(
                f"{ours} trains {statistics.median(ratios):.2f} times the tokens/s of {peer} "
                f"({min(ratios):.2f} to {max(ratios):.2f} in a round)",
                highlight=False,
            )
    for ours, peer in MEMORY_RATIOS:
        if {ours, peer} <= bench.runs.keys():
            console.print(f"{ours} takes {bench.memory_ratio(ours, peer):.2f} times the memory of {peer}")
    for peer in EQUAL_BATCHES:
        if {LAYOUTS[0], peer} <= bench.runs.keys():
            error = bench.loss_error(peer)
            console.print(f"{LAYOUTS[0]} and {peer}: losses of equal batches differ by {error:.1e} at most")
    console.print(
        "on a CPU, TRL scores prompts and padding, too, so these ratios hold for a CPU only", style="dim"
    )
