"""The tables of `drsft data`."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from drsft.intake.data_report import DataReport
from drsft.intake.field_profile import Lengths
from drsft.records import Problem

__all__ = ["data_tables"]

SHOWN_FIELDS = 40
ROLES = {"demonstration": "solution", "reference": "answer", "messages": "conversation"}


def data_tables(
    report: DataReport, turn: Mapping[str, str] | None, hints: Sequence[str]
) -> Iterator[Table | Text]:
    """Yields the tables of `drsft data`, in the order shown.

    A line of counts comes first, then tables of fields, columns, lengths, rows set aside and the first
    problem, then hints.
    """
    yield Text(_summary(report), style="bold")
    yield _fields_table(report)
    yield _columns_table(report)
    if report.lengths:
        yield _lengths_table(report)
    if report.set_aside:
        yield _set_aside_table(report)
    if report.first is not None:
        yield _first_table(report.first, turn)
    for hint in hints:
        yield Text(hint)


def _summary(report: DataReport) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.kinds.items())
    parts = [
        f"{report.num_read:,} rows read{'' if report.is_whole else ' (only the first)'}",
        f"{report.num_problems:,} problems{kinds and f' ({kinds})'}",
        f"{report.num_duplicates:,} exact duplicates",
        f"{sum(one.num_rows for one in report.set_aside):,} set aside",
    ]
    return f"{report.path}: {', '.join(parts)}"


def _fields_table(report: DataReport) -> Table:
    num_rows = report.fields[0].num_rows if report.fields else 0
    table = Table(title=f"fields of the first {num_rows:,} rows", title_justify="left")
    for name in ("field", "type", "filled", "distinct", "median", "p95", "max", "example"):
        table.add_column(name, justify="left" if name in ("field", "type", "example") else "right")
    for one in report.fields[:SHOWN_FIELDS]:
        kinds = ", ".join(str(kind) for kind in one.types)
        fill = f"{one.fill:.0%}" if one.num_filled in (0, one.num_rows) else f"{one.fill:.1%}"
        lengths = _cells(one.chars)
        table.add_row(
            _short(one.path, 40), kinds, fill, f"{one.num_distinct:,}", *lengths, _short(one.example, 40)
        )
    if len(report.fields) > SHOWN_FIELDS:
        table.caption = f"and {len(report.fields) - SHOWN_FIELDS} more: --json"
    return table


def _columns_table(report: DataReport) -> Table:
    table = Table("taken for", "field", title="columns", title_justify="left")
    table.add_column("rows", justify="right")
    for role, columns in report.taken.items():
        for column, count in columns.items():
            table.add_row(ROLES.get(role, role), _short(column, 60), f"{count:,}")
    return table


def _lengths_table(report: DataReport) -> Table:
    title = "lengths of the problems"
    if report.num_measured:
        title += (
            f"; tokens of {report.num_measured:,} (drawn evenly, and the longest), with the chat template"
        )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in (
        "characters: median",
        "p95",
        "max",
        *(("tokens: median", "p95", "max") if report.num_measured else ()),
    ):
        table.add_column(name, justify="right")
    for one in report.lengths:
        table.add_row(one.part, *_cells(one.chars), *(_cells(one.tokens) if report.num_measured else ()))
    return table


def _cells(lengths: Lengths | None) -> tuple[str, str, str]:
    if lengths is None:
        return "", "", ""
    return f"{lengths.median:,}", f"{lengths.p95:,}", f"{lengths.max:,}"


def _set_aside_table(report: DataReport) -> Table:
    table = Table("set aside", title="rows that a run would set aside", title_justify="left")
    table.add_column("rows", justify="right")
    table.add_column("the first")
    for one in report.set_aside:
        place = f"{one.place.rpartition('/')[2]}: {one.detail}"
        table.add_row(one.reason, f"{one.num_rows:,}", _short(place, 200))
    return table


def _first_table(problem: Problem, turn: Mapping[str, str] | None) -> Table:
    table = Table("", "text", title="the first problem", title_justify="left")
    shown = {
        "question": problem.whole_question,
        "solution": problem.demonstration,
        "answer": problem.reference,
    }
    shown |= {"kind": problem.kind}
    shown |= {} if turn is None else {"the model sees": turn["prompt"], "it is to say": turn["completion"]}
    for name, text in shown.items():
        table.add_row(name, _short(text, 600))
    return table


def _short(text: str, max_chars: int) -> Text:
    """Returns the text on one line, cut to `max_chars`."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: max_chars + 1])
    return Text(line if len(line) <= max_chars else f"{line[: max_chars - 1]}…")
