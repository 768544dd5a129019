"""Reads the rows of a dataset from any location and in any format.

A row that cannot be read is yielded as a BadRow with its place; a file that cannot be read raises InputError.
"""

from collections.abc import Iterator

from drsft.config import Problems
from drsft.errors import StorageError
from drsft.intake.formats.choice import format_of
from drsft.intake.formats.row import BadRow, JsonLine, Row
from drsft.intake.formats.stream import BreaksOffError, Stream
from drsft.intake.hub import hub_files, hub_rows
from drsft.intake.locations import files_of, shown_name
from drsft.storage import LocalStore, Store

__all__ = ["BadRow", "JsonLine", "Row", "read_rows", "read_unparsed_rows"]


def read_rows(problems: Problems) -> Iterator[Row | BadRow]:
    """Yields every row of `problems.path`, in a stable order; a BadRow for one that cannot be read.

    Raises InputError if a file cannot be found or read, StorageError if reading it fails midway.
    """
    for row in read_unparsed_rows(problems):
        yield row.parsed() if isinstance(row, JsonLine) else row


def read_unparsed_rows(problems: Problems) -> Iterator[Row | BadRow | JsonLine]:
    """Yields rows as `read_rows` does, but JSON lines unparsed, so that other processes can parse them."""
    files = files_of(problems)
    if files is None:
        fetched = hub_files(problems)
        if fetched is None:
            yield from hub_rows(problems)
            return
        files = ((LocalStore(path.parent), path.name) for path in fetched)
    for store, key in files:
        yield from _rows_of_file(store, key, problems)


def _rows_of_file(store: Store, key: str, problems: Problems) -> Iterator[Row | BadRow | JsonLine]:
    name = shown_name(store, key)
    number = 0
    with store.open(key) as file:
        try:
            stream = Stream(file, name, encoding=problems.reading.encoding)
            for row in format_of(stream, problems.reading.format).read(stream, problems):
                number += 1
                yield row
        except BreaksOffError as error:
            detail = f"{error}; what follows row {number} of the file is missing"
            yield BadRow(f"{name} row {number + 1}", detail, "", kind="file breaks off")
        except OSError as error:
            raise StorageError(f"cannot read {name} after row {number}: {error}") from error
