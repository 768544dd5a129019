"""Shows a run's progress: live on a terminal, as occasional lines elsewhere; a page gets the same lines."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drsft.policy.vllm.start_phases import EnginePhase
from drsft.stages.stage_progress import StageProgress

__all__ = ["LinePrinter", "OnLines", "describe", "progress_line", "progress_shown"]

SOURCES = ("own", "rewritten", "hinted", "expert")
QUIET_S = 60.0  # a log has a line at least this often while a stage runs

OnLines = Callable[[Sequence[str]], None]  # gets a line for each stage, a few times a second


@contextmanager
def progress_shown(board: Any, console: Console, *, on_lines: OnLines = lambda lines: None) -> Iterator[None]:
    """Shows the board's progress while the block runs.

    On a terminal the display is live. Elsewhere a stage gets a line when its work changes, when it has
    advanced by a tenth, and at least every minute. `on_lines` is called about twice a second with a list of
    one line for each stage.
    """
    if console.is_terminal:
        with (
            Live(console=console, refresh_per_second=4, transient=False) as live,
            _polled(board, lambda stages: live.update(_drawn(stages)), on_lines),
        ):
            yield
    else:
        with _polled(board, LinePrinter(console), on_lines):
            yield


@contextmanager
def _polled(board: Any, show: Callable[[Sequence[StageProgress]], None], on_lines: OnLines) -> Iterator[None]:
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(0.5):
            show_once()

    def show_once() -> None:
        try:
            stages: Sequence[StageProgress] = ray.get(board.snapshot.remote(), timeout=5)
        except ray.exceptions.GetTimeoutError:
            return  # on a machine this busy the board may take seconds to start, or to answer
        except ray.exceptions.RayError:
            stop.set()  # the cluster is shutting down: the run itself reports why
            return
        show(stages)
        on_lines([progress_line(stage) for stage in stages])

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if ray.is_initialized():
            show_once()


def _drawn(stages: Sequence[StageProgress]) -> Group:
    table = Table.grid(padding=(0, 2))
    for stage in stages:
        share = Text(_share(stage), style="bold", justify="right")
        total = None if stage.is_growing else max(stage.total, 1)
        bar = ProgressBar(total=total, completed=stage.done, width=24)
        table.add_row(Text(stage.stage, style="cyan"), bar, share, Text(describe(stage), style="dim"))
    return Group(table)


def progress_line(stage: StageProgress) -> str:
    return f"{stage.stage:<10} {_share(stage)}  {describe(stage)}".rstrip()


def _share(stage: StageProgress) -> str:
    return f"{stage.done:,.0f}" if stage.is_growing else f"{stage.done:,.0f}/{stage.total:,.0f}"


def describe(stage: StageProgress) -> str:
    """Returns a stage's progress as text, without its name and count: problems by source, samples, speed,
    time left or taken, phases of its engines.
    """
    parts = [f"{stage.total:,.0f} problems so far, reading"] if stage.is_growing else []
    parts += [f"{name} {stage.counts[name]:,.0f}" for name in SOURCES if name in stage.counts]
    if stage.num_samples:
        parts.append(f"{stage.num_samples:,} samples")
    if stage.num_in_flight:
        parts.append(f"{stage.num_in_flight:,} in flight")
    rate = stage.counts.get("tokens_per_s", stage.tokens_per_s)
    if rate is not None:
        parts.append(f"{rate:,.0f} tokens/s")
    told = {*SOURCES, "tokens_per_s"}
    parts += [f"{name} {value:,.4g}" for name, value in stage.counts.items() if name not in told]
    if stage.is_done:
        parts.append(f"{stage.elapsed_s:.0f} s")
    elif stage.remaining_s is not None and stage.remaining_s >= 1:  # some time is left, so never "0:00"
        parts.append(f"{_clock(stage.remaining_s)} left")
    return "  ".join(filter(None, [*parts, _phases(stage.engines), stage.note]))


def _phases(engines: Mapping[EnginePhase, int]) -> str:
    """Returns the phases of the engines that do not sample yet; empty once all sample."""
    starting = {phase: num for phase, num in engines.items() if phase is not EnginePhase.SAMPLING}
    if len(engines) == 1:
        return "".join(starting)
    return ", ".join(f"{num} {phase}" for phase, num in sorted(starting.items()))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LinePrinter:
    """Prints a line about a stage when its current work changes, when it advances by a tenth or ends, and at
    least every minute.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._printed: dict[str, tuple[object, float]] = {}  # by stage: what it was doing, and when

    def __call__(self, stages: Sequence[StageProgress]) -> None:
        now_s = self._clock()
        for stage in stages:
            tenth = int(10 * stage.done / stage.total) if stage.total and not stage.is_growing else 0
            doing = (tenth, stage.is_done, _phases(stage.engines), stage.note)
            before, printed_s = self._printed.get(stage.stage, (None, now_s))
            if doing != before or (now_s - printed_s >= QUIET_S and not stage.is_done):
                self._printed[stage.stage] = doing, now_s
                self._console.print(progress_line(stage), markup=False, highlight=False, soft_wrap=True)
