"""`drsft data FILE`: reads a data set as a run would, and prints what it contains."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from drsft.cli.data_tables import data_tables
from drsft.cli.terminal import progress_console
from drsft.config import Columns, Problems, Target
from drsft.config.base import Frozen
from drsft.config.configfile import load_config, settings_of
from drsft.errors import ConfigError, InputError
from drsft.intake.data_report import DataReport, report_data
from drsft.policy.prompts import Prompter, target_prompter
from drsft.records import Problem
from drsft.setup.data_survey import DataSurvey, survey_data
from drsft.setup.found_columns import GivenColumns, likeliest
from drsft.verify.kinds import KINDS, kinds_of

__all__ = ["show_data"]

WIDTH = 160  # where the output is not a terminal: every column whole
_ROLES = ("question", "demonstration", "reference", "messages")
_TESTS = {"test", "tests", "test_list"}  # fields from which kind code takes its reference
EVERY_S = 5.0  # a line of progress in a log


class _OnlyProblems(Frozen):
    problems: Problems


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How the file will be read: by a run's configuration, or by what was given and guessed."""

    problems: Problems
    guesses: Mapping[str, str]  # key of problems -> why its value was taken
    trouble: str | None  # why nothing was taken, in the words of drsft init
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
    """Prints what a run would read from `file`: fields, columns, lengths, rows set aside, the first problem.

    Columns that are not given are guessed as `drsft init` does. With `model`, its tokens are counted. Raises
    InputError, after the tables, if no row gives a problem.
    """
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
            trouble=None,
            has_solutions=True,
            target=target,
            has_run=True,
            kinds=kinds_of(run.rewrite.verification),
        )
    tree = {"problems": {"path": file}}
    given = settings_of(_OnlyProblems, tree, overrides, source="drsft data").problems
    problems, guesses, trouble, has_solutions = given, dict[str, str](), None, True
    try:
        survey = _survey(given)
    except InputError as error:
        trouble = str(error)
    else:
        named = {role: getattr(given.columns, role) for role in given.columns.model_fields_set}
        columns = survey.problems.columns.model_copy(update=named)
        problems, guesses = (
            survey.problems.model_copy(update={"columns": columns}),
            _guesses(given, survey),
        )
        has_solutions = survey.columns.has_solutions
    return _Reading(
        problems=problems,
        guesses=guesses,
        trouble=trouble,
        has_solutions=has_solutions,
        target=Target(model=model) if model else None,
        has_run=False,
        kinds=frozenset(KINDS),
    )


def _survey(given: Problems) -> DataSurvey:
    """Returns the survey that drsft init would make, with the likeliest choice where it would ask.

    Raises InputError.
    """
    named = {role: getattr(given.columns, role) for role in _ROLES}
    columns = {
        role: name
        for role, name in named.items()
        if role in given.columns.model_fields_set and isinstance(name, str)
    }
    kind = given.kind if "kind" in given.model_fields_set else None
    return survey_data(given, GivenColumns(**columns), likeliest, kind=kind)


def _guesses(given: Problems, survey: DataSurvey) -> dict[str, str]:
    """Returns the settings that are neither given nor defaults, each with the reason."""
    found, usual = survey.problems, Columns()
    guesses = {
        f"columns.{role}": survey.columns.reasons.get(role, "is what drsft init takes")
        for role in _ROLES
        if role not in given.columns.model_fields_set
        and getattr(found.columns, role) not in (None, *_usual_names(usual, role))
    }
    if found.kind != given.kind:
        guesses["kind"] = survey.kind_reason
    if found.options_from != given.options_from:
        guesses["options_from"] = "answers are numbers of options"
    if found.split != given.split:
        guesses["split"] = f"there is no split {given.split!r}"
    if found.reading != given.reading:
        guesses["reading.encoding"] = "it is not UTF-8 and has accents inside words"
    return guesses


def _usual_names(columns: Columns, role: str) -> Sequence[str]:
    return () if role == "messages" else columns.candidates(cast(Any, role))


def _report(reading: _Reading, prompter: Prompter | None, max_rows: int | None) -> DataReport:
    limit = reading.target.max_model_len if reading.has_run and reading.target is not None else None
    with _progress() as on_row:
        return report_data(
            reading.problems,
            prompter=prompter,
            max_model_len=limit,
            max_rows=max_rows,
            kinds=reading.kinds,
            on_row=on_row,
        )


def _turn(prompter: Prompter, problem: Problem) -> dict[str, str]:
    """Returns the prompt and the completion of the first problem, as the model is trained on them."""
    decode = prompter.tokenizer.decode
    prompt, solution = prompter.plain(problem), prompter.completion(problem.demonstration)
    return {
        "prompt": decode(list(prompt), skip_special_tokens=False),
        "completion": decode(list(solution), skip_special_tokens=False),
    }


def _hints(reading: _Reading, report: DataReport) -> Iterator[str]:
    """Yields what the user should check, one line each with the key to set."""
    if reading.trouble is not None:
        yield f"drsft init: {reading.trouble}"
    for key, reason in reading.guesses.items():
        value = reduce(getattr, key.split("."), reading.problems)
        yield f"guessed: problems.{key} is {value!r}: {reason}"
    if not reading.has_solutions:
        yield "no solutions found; a configuration of drsft init shows the target the answer instead"
    if "code" not in report.kinds and _TESTS & {one.path for one in report.fields}:
        yield "rows hold tests of code; to judge by them set problems.kind: code"
    if report.options is not None:
        question = next(iter(report.taken.get("question", {})), "question")
        template = f"{{{question}}}\\n{{{report.options}}}"
        kind = "" if "choice" in report.kinds else " and problems.kind: choice"
        yield f'options are in {report.options!r}; set problems.columns.question: "{template}"{kind}'


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Yields a function that shows how many rows were read.

    A terminal gets a line that changes; a log gets a line every few seconds.
    """
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
