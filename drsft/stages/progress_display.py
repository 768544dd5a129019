"""Draws the progress board: live on a terminal, a line now and then elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drsft.stages.progress_board import StageProgress

__all__ = ["describe", "progress_shown"]

SOURCES = ("own", "rewritten", "hinted", "expert")


@contextmanager
def progress_shown(board: Any, console: Console) -> Iterator[None]:
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
            show(_Progress(ray.get(board.snapshot.remote(), timeout=5)))
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


class _Progress:
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

    def __call__(self, progress: _Progress) -> None:
        for stage in progress.stages:
            tenth = int(10 * stage.done / stage.total) if stage.total else 0
            if tenth > self._tenths.get(stage.stage, -1):
                self._tenths[stage.stage] = tenth
                line = f"{stage.stage:<10} {stage.done:,.0f}/{stage.total:,.0f}  {describe(stage)}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
