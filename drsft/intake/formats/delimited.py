"""Reads tables stored as text: CSV, TSV and similar. Every field keeps the text of the file."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from drsft.config import Problems, Reading
from drsft.intake.formats.row import MAX_ROW_BYTES, BadRow, Row
from drsft.intake.formats.stream import Stream

__all__ = ["begins_as_table", "read_table_text"]

SEPARATORS = ",\t;|"
SAMPLED_RECORDS = 50
NOT_UTF8 = "not UTF-8; set problems.reading.encoding, for example to cp1252"
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # Excel's
_NUMBER = re.compile(r"[-+]?[\d.,]*\d%?")
_NAME = re.compile(r"[^\W\d][^?!\n]{0,39}")  # how a column may be called


class _Records(Protocol):
    """The interface of a csv.reader, which yields records."""

    @property
    def line_num(self) -> int: ...
    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class _Dialect:
    separator: str
    has_quotes: bool

    def reader(self, lines: io.TextIOBase) -> _Records:
        if self.has_quotes:
            return csv.reader(lines, delimiter=self.separator)
        return csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE)


def begins_as_table(stream: Stream) -> bool:
    """Returns whether 90 % of the first records have the same number of cells, more than one."""
    head = stream.head.lstrip()
    if head.startswith(("{", "[")) or "\x00" in head:
        return False
    dialect = _dialect_of(stream, Reading())
    widths = Counter(map(len, _sampled(stream, dialect)))
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    return width > 1 and widths.total() > 1 and count >= 0.9 * widths.total()


def read_table_text(stream: Stream, problems: Problems) -> Iterator[Row | BadRow]:
    """Yields a row for each record; a BadRow if it has another number of cells, or is not UTF-8.

    The fields are named by the first record if it is a header, else column_1, column_2, …
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    reading = problems.reading
    dialect = _dialect_of(stream, reading)
    sampled = _sampled(stream, dialect)
    if not sampled:
        return
    has_header = _has_header(sampled) if reading.header is None else reading.header
    names = _names(sampled[0]) if has_header else [f"column_{n}" for n in range(1, len(sampled[0]) + 1)]
    with io.TextIOWrapper(stream.open(), "utf-8", errors="surrogateescape", newline="") as text:
        if _SEPARATOR_LINE.match(stream.head):
            text.readline()
        yield from _rows(dialect.reader(text), names, stream.name, skips_first=has_header)


def _rows(reader: _Records, names: list[str], name: str, *, skips_first: bool) -> Iterator[Row | BadRow]:
    num_lines = 0
    while True:
        place = f"{name} line {num_lines + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(place, f"not a record of a table: {error}", "")
            num_lines = reader.line_num
            continue
        num_lines = reader.line_num
        if not any(cells):
            continue
        if skips_first:
            skips_first = False
            if not _is_unicode(cells):
                yield BadRow(place, NOT_UTF8, _printable(", ".join(cells)[:500]))
            continue
        yield _row(cells, names, place)


def _row(cells: list[str], names: list[str], place: str) -> Row | BadRow:
    if len(cells) != len(names):
        reason = f"{len(cells)} cells where the table has {len(names)} columns; check quotes and separators"
        return BadRow(place, reason, _printable(", ".join(cells)[:500]))
    if not _is_unicode(cells):
        return BadRow(place, NOT_UTF8, _printable(", ".join(cells)[:500]))
    return Row(place, dict(zip(names, cells, strict=True)))


def _is_unicode(cells: Sequence[str]) -> bool:
    return all(cell.isascii() or _printable(cell) == cell for cell in cells)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _sampled(stream: Stream, dialect: _Dialect) -> list[list[str]]:
    """Returns the first complete records that are not blank."""
    head = (
        _SEPARATOR_LINE.sub("", stream.head, count=1) if _SEPARATOR_LINE.match(stream.head) else stream.head
    )
    records: list[list[str]] = []
    try:
        for record in dialect.reader(io.StringIO(head, newline="")):
            if any(record):
                records.append(record)
            if len(records) > SAMPLED_RECORDS:
                break
    except csv.Error:
        pass
    if (len(records) > 1 and not stream.is_whole) or len(records) > SAMPLED_RECORDS:
        records.pop()
    return records


def _dialect_of(stream: Stream, reading: Reading) -> _Dialect:
    """Returns the separator that gives most records the same width, and whether quotes enclose cells."""
    said = _SEPARATOR_LINE.match(stream.head)
    given = reading.separator or (said and said[1])
    both = (
        _quoted_or_not(stream, _Dialect(separator, True), _Dialect(separator, False))
        for separator in ([given] if given else SEPARATORS)
    )
    return max(both, key=lambda found: found[0])[1]


def _quoted_or_not(stream: Stream, quoted: _Dialect, plain: _Dialect) -> tuple[tuple[float, int], _Dialect]:
    """Returns the better of two dialects, with and without quotes around cells, and how regular its records
    are.

    Quotes enclose cells unless the records are more regular without them.
    """
    with_quotes, without = (_regularity(_sampled(stream, one)) for one in (quoted, plain))
    return (without, plain) if without[0] > with_quotes[0] else (with_quotes, quoted)


def _regularity(records: list[list[str]]) -> tuple[float, int]:
    """Returns the share of records with the most common width, and that width; a single column counts 0."""
    if not records:
        return 0.0, 0
    width, count = Counter(map(len, records)).most_common(1)[0]
    return (round(count / len(records), 1), min(width, 100)) if width > 1 else (0.0, 0)


def _has_header(records: Sequence[Sequence[str]]) -> bool:
    """Returns whether the first record holds names: short, distinct, no numbers, none repeated below it.

    A letter may be repeated: the columns A, B, C, D hold options, and one of these may be "A".
    """
    first, *others = records
    cells = [cell.strip() for cell in first]
    named = [cell for cell in cells if cell]
    if len(set(named)) < len(named) or not named or any(map(_NUMBER.fullmatch, named)):
        return False
    below = list(zip_longest(*others, fillvalue=""))
    if any(_are_numbers(column) for _, column in zip(cells, below, strict=False)):
        return True
    if not all(_NAME.fullmatch(cell) and len(cell.split()) <= 5 for cell in named):
        return False
    return not any(
        len(name) > 1 and name in map(str.strip, column) for name, column in zip(cells, below, strict=False)
    )


def _are_numbers(column: Sequence[str]) -> bool:
    """Returns whether all cells of a column but the first are numbers; then the first cell is a name."""
    filled = [cell.strip() for cell in column if cell.strip()]
    return len(filled) > 1 and all(map(_NUMBER.fullmatch, filled))


def _names(cells: Sequence[str]) -> list[str]:
    """Returns a name for each column: its own, column_3 if it has none, answer_2 if the name is taken."""
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = _printable(cell.strip()) or f"column_{number}"
        copies = sum(other == name for other in map(str.strip, cells[: number - 1]))
        names.append(f"{name}_{copies + 1}" if copies else name)
    return names
