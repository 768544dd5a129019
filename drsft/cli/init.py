"""Implements `drsft init`: makes a first configuration from a file, a model and this machine."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.prompt import IntPrompt
from rich.table import Table

from drsft.config.configfile import load_config
from drsft.errors import ConfigError, InputError
from drsft.intake.roles import Candidate, Role
from drsft.setup.found_columns import FLAGS, likeliest
from drsft.setup.machine import this_machine
from drsft.setup.starter import Starter, Wanted, make_starter

__all__ = ["write_starter"]

SHOWN_CHARS = 60
WIDTH = 160  # where the output is not a terminal


def write_starter(wanted: Wanted, output: Path, *, force: bool, yes: bool, as_json: bool) -> None:
    """Writes a configuration to `output` and prints the choices in it, each with its reason.

    Where several fields are possible, asks the user on a terminal; with `yes`, takes the likeliest; else
    raises InputError. Raises ConfigError if `output` exists, unless `force`, or cannot be written.
    """
    if output.exists() and not force:
        raise ConfigError(f"{output} exists; add --force to overwrite it, or -o OTHER.yaml")
    is_terminal = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    ask = likeliest if yes else _ask if is_terminal else _refuse
    starter = make_starter(wanted, ask, this_machine())
    try:
        output.write_text(starter.text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror}; give a file that can be written: -o FILE") from error
    load_config(output)
    if as_json:
        print(json.dumps(_as_json(starter, output), ensure_ascii=False))
        return
    Console(width=None if sys.stdout.isatty() else WIDTH).print(_table(starter))
    if starter.warning is not None:
        print(f"{starter.warning}; all of them: drsft data {wanted.path} --config {output}")
    print(f"{output} is written. Next: drsft run {output}")


def _as_json(starter: Starter, output: Path) -> dict[str, Any]:
    choices = [{"key": one.key, "value": one.value, "reason": one.reason} for one in starter.choices]
    return {
        "config": str(output),
        "choices": choices,
        "warning": starter.warning,
        "next": f"drsft run {output}",
    }


def _table(starter: Starter) -> Table:
    table = Table()
    table.add_column("key", no_wrap=True)
    table.add_column("value")
    table.add_column("why")
    for one in starter.choices:
        if not one.is_told:
            continue
        value = " ".join(str(one.value).split())
        shown = value if len(value) <= SHOWN_CHARS else f"{value[: SHOWN_CHARS - 1]}…"
        table.add_row(one.key, shown, one.reason)
    return table


def _refuse(role: Role, candidates: Sequence[Candidate]) -> str:
    names = ", ".join(one.column for one in candidates[:6])
    raise InputError(
        f"several fields could be the {_NAMES[role]} ({names}); name one: {FLAGS[role]} FIELD, or take the "
        "likeliest with --yes"
    )


def _ask(role: Role, candidates: Sequence[Candidate]) -> str:
    console = Console(stderr=True)
    console.print(f"Which field is the {_NAMES[role]}? Each has the reason why it may be.", highlight=False)
    for number, one in enumerate(candidates, start=1):
        console.print(f"  {number}. {one.column}: {one.reason}", highlight=False, markup=False)
    numbers = [str(number) for number in range(1, len(candidates) + 1)]
    return candidates[IntPrompt.ask("number", console=console, choices=numbers, default=1) - 1].column


_NAMES = {
    Role.QUESTION: "question",
    Role.DEMONSTRATION: "solution",
    Role.REFERENCE: "answer",
    Role.MESSAGES: "conversation",
    Role.OPTIONS: "list of options",
}
