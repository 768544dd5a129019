"""`drsft data FILE`: reads a data set as a run would, and prints what it found."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from drsft.cli.data_tables import data_tables
from drsft.cli.terminal import progress_console
from drsft.config import Problems, Target
from drsft.config.base import Frozen
from drsft.config.configfile import load_config, settings_of
from drsft.errors import ConfigError, InputError
from drsft.intake.data_report import DataReport, guess_columns, report_data
from drsft.policy.prompts import Prompter, target_prompter
from drsft.records import Problem
from drsft.verify.kinds import KINDS, kinds_of

__all__ = ["show_data"]

WIDTH = 160  # where the output is no terminal: every column whole
_TESTS = {"test", "tests", "test_list"}  # fields from which kind code takes its reference
EVERY_S = 5.0  # a line of progress in a log


class _OnlyProblems(Frozen):
    problems: Problems


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How the file is to be read: by a run's configuration, or by what was given and guessed."""

    problems: Problems
    guesses: Mapping[str, str]
    has_solutions: bool
    target: Target | None
    has_run: bool
    kinds: frozenset[str]


def show_data(
    file: str,
    overrides: Sequence[str],
    *,
    config: Path | None = None,
    columns: Sequence[str] = (),
    model: str | None = None,
    max_rows: int | None = None,
    as_json: bool = False,
) -> None:
    """Prints what the rows are read as. Raises InputError, behind the tables, where they give no problem."""
    reading = _reading(file, config, [*_as_overrides(columns), *overrides], model)
    prompter = None if reading.target is None else target_prompter(reading.target)
    report = _report(reading, prompter, max_rows)
    turn = None if prompter is None or report.first is None else _turn(prompter, report.first)
    hints = tuple(_hints(reading, report))
    if as_json:
        found = {**asdict(report), "guessed": dict(reading.guesses), "turn": turn, "hints": hints}
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        for part in data_tables(report, turn, hints):
            console.print(part)
    if not report.num_problems:
        first = report.set_aside[0] if report.set_aside else None
        reason = f"{first.place}: {first.reason}: {first.detail}" if first else "it holds no rows"
        raise InputError(f"{file} gives no problem: {reason}")


def _as_overrides(columns: Sequence[str]) -> Iterator[str]:
    for one in columns:
        role, equals, column = one.partition("=")
        if not equals or not column:
            raise ConfigError(f"--columns {one!r}: write ROLE=COLUMN, as in question=Body")
        yield f"problems.columns.{role}={json.dumps(column)}"


def _reading(file: str, config: Path | None, overrides: Sequence[str], model: str | None) -> _Reading:
    if config is not None:
        run = load_config(config, [f"problems.path={json.dumps(file)}", *overrides])
        target = run.target.model_copy(update={"model": model}) if model else run.target
        return _Reading(
            problems=run.problems,
            guesses={},
            has_solutions=True,
            target=target,
            has_run=True,
            kinds=kinds_of(run.rewrite.verification),
        )
    tree = {"problems": {"path": file}}
    problems = settings_of(_OnlyProblems, tree, overrides, source="drsft data").problems
    guessed = guess_columns(problems)
    return _Reading(
        problems=problems.model_copy(update={"columns": guessed.columns}),
        guesses=guessed.reasons,
        has_solutions=guessed.has_solutions,
        target=Target(model=model) if model else None,
        has_run=False,
        kinds=frozenset(KINDS),
    )


def _report(reading: _Reading, prompter: Prompter | None, max_rows: int | None) -> DataReport:
    limit = reading.target.max_model_len if reading.has_run and reading.target is not None else None
    with _progress() as on_row:
        return report_data(
            reading.problems,
            prompter=prompter,
            max_model_len=limit,
            max_rows=max_rows,
            needs_demonstration=reading.has_solutions,
            kinds=reading.kinds,
            on_row=on_row,
        )


def _turn(prompter: Prompter, problem: Problem) -> dict[str, str]:
    """What the model sees of the first problem, and what it is trained to say."""
    decode = prompter.tokenizer.decode
    prompt, solution = prompter.plain(problem), prompter.completion(problem.demonstration)
    return {
        "prompt": decode(list(prompt), skip_special_tokens=False),
        "completion": decode(list(solution), skip_special_tokens=False),
    }


def _hints(reading: _Reading, report: DataReport) -> Iterator[str]:
    """What a person should look at, a line each with the key to set."""
    for role, reason in reading.guesses.items():
        column = getattr(reading.problems.columns, role)
        yield f"guessed: problems.columns.{role} is {column!r}, which {reason}"
    if not reading.has_solutions:
        yield "no solutions found; a run needs problems.columns.demonstration"
    if "code" not in report.kinds and _TESTS & {one.path for one in report.fields}:
        yield "rows hold tests of code; to judge by them set problems.kind: code"
    if report.options is not None:
        question = next(iter(report.taken.get("question", {})), "question")
        template = f"{{{question}}}\\n{{{report.options}}}"
        kind = "" if "choice" in report.kinds else " and problems.kind: choice"
        yield f'options lie in {report.options!r}; set problems.columns.question: "{template}"{kind}'


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Takes how many rows were read: a line that changes on a terminal, one every few seconds in a log."""
    console = progress_console()
    if not console.is_terminal:
        yield _logged(console)
        return
    shown = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows read"), TimeElapsedColumn())
    with Progress(*shown, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def on_row(num_rows: int) -> None:
            if num_rows % 256 == 0:
                progress.update(task, completed=num_rows)

        yield on_row


def _logged(console: Console) -> Callable[[int], None]:
    said = time.monotonic()

    def on_row(num_rows: int) -> None:
        nonlocal said
        if num_rows % 256 == 0 and time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            console.print(f"{num_rows:,} rows read", highlight=False)

    return on_row
