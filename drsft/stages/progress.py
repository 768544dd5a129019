"""How far a run is: actors send small updates to one board, the driver draws it.

Losing an update loses nothing but a picture; what counts is read from the commits.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["Board", "StageProgress", "Ticker", "start_board", "watched"]

SOURCES = ("own", "rewritten", "hinted", "expert")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """One stage as the board knows it. Rates are over the time since the stage's first update."""

    stage: str
    done: float = 0
    total: float = 0
    num_tokens: float = 0
    note: str = ""
    counts: dict[str, float] = field(default_factory=dict)
    started_s: float = 0.0  # of the first work done, not of the engines' start
    updated_s: float = 0.0
    done_before: float = 0  # of an earlier start; it says nothing about the rate of this one

    @property
    def elapsed_s(self) -> float:
        return max(self.updated_s - self.started_s, 1e-6)

    @property
    def remaining_s(self) -> float | None:
        fresh = self.done - self.done_before
        return self.elapsed_s / fresh * (self.total - self.done) if fresh > 0 else None


class Board:
    """Keeps the progress of all stages, in the order in which they began."""

    def __init__(self) -> None:
        self._stages: dict[str, StageProgress] = {}

    def _get(self, stage: str) -> StageProgress:
        now = time.monotonic()
        return self._stages.get(stage, StageProgress(stage=stage, started_s=now, updated_s=now))

    def _running(self, stage: str) -> StageProgress:
        old = self._get(stage)
        is_first = old.started_s == old.updated_s
        return replace(old, started_s=time.monotonic() - 1e-3, note="") if is_first else old

    def begin(self, stage: str, *, total: float, done_before: float = 0) -> None:
        self._stages[stage] = replace(
            self._get(stage), total=total, done=done_before, done_before=done_before, note="starting"
        )

    def add(self, stage: str, *, done: float = 0, num_tokens: float = 0, **counts: float) -> None:
        """Add what one worker did since its last message."""
        old = self._running(stage)
        summed = {name: old.counts.get(name, 0) + counts.get(name, 0) for name in {*old.counts, *counts}}
        self._stages[stage] = replace(
            old,
            done=old.done + done,
            num_tokens=old.num_tokens + num_tokens,
            counts=summed,
            updated_s=time.monotonic(),
        )

    def update(self, stage: str, *, done: float, total: float, note: str = "", **counts: float) -> None:
        """Set where a stage stands, for stages with one voice."""
        old = self._running(stage)
        self._stages[stage] = replace(
            old, done=done, total=total, note=note, counts=dict(counts), updated_s=time.monotonic()
        )

    def finish(self, stage: str, note: str = "") -> None:
        old = self._get(stage)
        total = old.total or 1
        self._stages[stage] = replace(old, done=total, total=total, note=note or old.note)

    def snapshot(self) -> list[StageProgress]:
        return list(self._stages.values())


def start_board() -> Any:
    """The board as a Ray actor that takes no CPU."""
    return ray.remote(num_cpus=0)(Board).remote()


class Ticker:
    """Collects one worker's updates and sends them a few times a second."""

    def __init__(self, board: Any, stage: str, *, every_s: float = 0.5) -> None:
        self._board, self._stage, self._every_s = board, stage, every_s
        self._sums: dict[str, float] = {}
        self._sent_s = 0.0

    def add(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self._sums[name] = self._sums.get(name, 0) + amount
        if time.monotonic() - self._sent_s >= self._every_s:
            self.flush()

    def flush(self) -> None:
        if self._sums and self._board is not None:
            self._board.add.remote(self._stage, **self._sums)
        self._sums, self._sent_s = {}, time.monotonic()


@contextmanager
def watched(board: Any, console: Console) -> Iterator[None]:
    """Draws the board while the block runs: live on a terminal, a line for each finished stage elsewhere."""
    if console.is_terminal:
        with (
            Live(console=console, refresh_per_second=4, transient=False) as live,
            _polled(board, live.update),
        ):
            yield
    else:
        with _polled(board, _LinePrinter(console)):
            yield


@contextmanager
def _polled(board: Any, show: Callable[[Any], None]) -> Iterator[None]:
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(0.5):
            show_once()

    def show_once() -> None:
        try:
            show(_Picture(ray.get(board.snapshot.remote(), timeout=5)))
        except ray.exceptions.RayError:
            stop.set()  # the cluster is going: the run itself reports why

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if ray.is_initialized():
            show_once()


class _Picture:
    """All stages, one line each."""

    def __init__(self, stages: list[StageProgress]) -> None:
        self.stages = stages

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for stage in self.stages:
            share = Text(f"{stage.done:,.0f}/{stage.total:,.0f}", style="bold", justify="right")
            bar = ProgressBar(total=max(stage.total, 1), completed=stage.done, width=24)
            table.add_row(Text(stage.stage, style="cyan"), bar, share, Text(describe(stage), style="dim"))
        return Group(table)


def describe(stage: StageProgress) -> str:
    """The rest of a stage's line: sources, speed, time left, and what is being done."""
    parts = [f"{name} {stage.counts[name]:,.0f}" for name in SOURCES if name in stage.counts]
    if stage.num_tokens:
        parts.append(f"{stage.num_tokens / stage.elapsed_s:,.0f} tokens/s")
    if "tokens_per_s" in stage.counts:
        parts.append(f"{stage.counts['tokens_per_s']:,.0f} tokens/s")
    told = {*SOURCES, "tokens_per_s"}
    parts += [f"{name} {value:,.4g}" for name, value in stage.counts.items() if name not in told]
    if stage.done >= stage.total > 0:
        parts.append(f"{stage.elapsed_s:.0f} s")
    elif stage.remaining_s is not None:
        parts.append(f"{_clock(stage.remaining_s)} left")
    return "  ".join([*parts, stage.note]).strip()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _LinePrinter:
    """For logs: a line when a stage has moved on by a tenth, and when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tenths: dict[str, int] = {}

    def __call__(self, picture: _Picture) -> None:
        for stage in picture.stages:
            tenth = int(10 * stage.done / stage.total) if stage.total else 0
            if tenth > self._tenths.get(stage.stage, -1):
                self._tenths[stage.stage] = tenth
                line = f"{stage.stage:<10} {stage.done:,.0f}/{stage.total:,.0f}  {describe(stage)}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
