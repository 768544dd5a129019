"""`drsft bench start`: measures the time from the command to the first committed shard, for files of several
sizes.

Every completion is one token long and shards are small, so the first commit comes shortly after the first
sampled token. The commit is visible from outside the process, so another checkout is measured in the same
way.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

import drsft
from drsft.bench.intake.varied_rows import write_varied_rows
from drsft.bench.models import ModelUse, bench_model
from drsft.bench.spread import spread
from drsft.bench.subprocesses import environment_of, other_checkout
from drsft.errors import StageError

__all__ = ["Start", "bench_start", "print_bench"]

SHARD_SIZE = 16
LOOKED_AGAIN_S = 0.02
LONGEST_S = 3_600.0
ENDS_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Seconds from the command to the first committed shard."""

    build: str  # "this" or "other"
    num_rows: int
    seconds: float


def bench_start(
    data: Sequence[Path], *, model: str, sizes: Sequence[int], peer: Path | None, num_rounds: int
) -> Iterator[Start]:
    """Yields each measured start. A round measures every size with every build, this one and `peer`'s.

    The order is reversed in every second round.

    Raises InputError for rows or a checkout that cannot be read, and StageError for a run that ends early.
    """
    checkouts = {"this": Path(drsft.__file__).parent.parent}
    if peer is not None:
        checkouts["other"] = other_checkout(peer)
    with tempfile.TemporaryDirectory(prefix="drsft-bench-") as folder:
        use = bench_model(model, Path(folder))
        paths = {size: Path(folder) / f"{size}.jsonl" for size in sizes}
        for size, path in paths.items():
            write_varied_rows(path, data, size)
        order = [(size, build) for size in sizes for build in checkouts]
        for number in range(num_rounds):
            for size, build in order[:: -1 if number % 2 else 1]:
                with tempfile.TemporaryDirectory(dir=folder) as run_folder:
                    seconds = _seconds_to_first_commit(
                        checkouts[build], paths[size], use=use, folder=Path(run_folder)
                    )
                yield Start(build=build, num_rows=size, seconds=seconds)


def _seconds_to_first_commit(checkout: Path, rows: Path, *, use: ModelUse, folder: Path) -> float:
    config, log = folder / "start.yaml", folder / "log"
    config.write_text(yaml.safe_dump(_config(rows, use, folder)))
    began_s = time.perf_counter()
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-P", "-m", "drsft.cli", "rewrite", str(config)],
            env=environment_of(checkout),
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while not any(folder.glob("runs/start*/rewrite/commits/*")):
            if running.poll() is not None or time.perf_counter() - began_s > LONGEST_S:
                told = " ".join(log.read_text()[-500:].split())
                raise StageError(f"no shard of {rows.name} was committed: {told}")
            time.sleep(LOOKED_AGAIN_S)
        return time.perf_counter() - began_s
    finally:
        running.terminate()  # it commits the shards in progress and stops its workers
        try:
            running.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            running.kill()


def _config(rows: Path, use: ModelUse, folder: Path) -> dict[str, object]:
    """Returns a configuration that uses only keys which old and new builds of drsft know."""
    one_token = {"num_samples": 1, "wave_size": 1, "max_tokens": 1}
    return {
        "name": "start",
        "storage": str(folder / "runs"),
        "problems": {"path": str(rows), "shard_size": SHARD_SIZE},
        "target": {
            **use.target,
            "max_model_len": 1024,
            "engine": {"max_num_seqs": SHARD_SIZE, "kv_cache_mib": 512, "enforce_eager": True},
        },
        "rewrite": {"self_align": one_token, "guided": one_token},
        "train": {"arms": [{"name": "dr+dft", "data": "rewritten", "objective": {"kind": "dft"}}]},
        "resources": {"rewrite_actors": 1, "cpus_per_actor": 1, "train_workers": 1},
    }


def print_bench(starts: Sequence[Start], console: Console | None = None) -> None:
    """Prints the seconds for each size and build, and their ratios to the first size and the other build."""
    console = console or Console()
    sizes = list(dict.fromkeys(one.num_rows for one in starts))
    table = Table(
        "build", "rows", "seconds, median", "least", "most", title="from the command to the first shard"
    )
    for build in dict.fromkeys(one.build for one in starts):
        for size in sizes:
            seconds = _seconds(starts, build, size)
            values = (f"{f(seconds):.1f}" for f in (statistics.median, min, max))
            table.add_row(build, f"{size:,}", *values)
    console.print(table)
    for size in sizes[1:]:
        ratios = _ratios(_seconds(starts, "this", size), _seconds(starts, "this", sizes[0]))
        told = f"{size:,} rows took {ratios} times as long as {sizes[0]:,}; median (least to most)"
        console.print(told, highlight=False)
    for size in sizes:
        if others := _seconds(starts, "other", size):
            ratios = _ratios(_seconds(starts, "this", size), others)
            told = f"{size:,} rows took {ratios} times the other build's time; median (least to most)"
            console.print(told, highlight=False)


def _seconds(starts: Sequence[Start], build: str, size: int) -> list[float]:
    return [one.seconds for one in starts if one.build == build and one.num_rows == size]


def _ratios(ours: Sequence[float], others: Sequence[float]) -> str:
    """Returns the median of the ratios by round, with their range."""
    return spread([one / other for one, other in zip(ours, others, strict=True)], decimals=2)
