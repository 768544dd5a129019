"""Rows of a dataset from wherever it lies: JSON lines (.gz too), Parquet, folders of them, s3://, the hub.

A row that cannot be read is yielded as a BadRow with its place; a file that cannot is an InputError.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from drsft.config import Problems
from drsft.errors import InputError, StorageError
from drsft.storage import LocalStore, S3Store, Store, open_store
from drsft.storage.failures import is_nameable

__all__ = ["BadRow", "Row", "read_rows"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_CURE = f"give {', '.join(_SUFFIXES[:-1])} (one object a line) or {_SUFFIXES[-1]}"
MAX_LINE_BYTES = 32 << 20  # a row is read whole; what JSON makes of it in memory may be thirty times as much
_ARRAY = re.compile(rb"\s*\[\s*(\{|$)")  # how a JSON array of objects begins


@dataclass(frozen=True, slots=True)
class Row:
    place: str  # "file line 3", for messages
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    place: str
    reason: str
    content: str  # the start of what stood there
    kind: str = "unreadable row"


def read_rows(problems: Problems) -> Iterator[Row | BadRow]:
    """Every row of `problems.path`, in a stable order. Raises InputError or StorageError."""
    path = problems.path
    if path.startswith("embedded:"):
        path = str(files("drsft.embedded") / "data" / f"{path.removeprefix('embedded:')}.jsonl.gz")
    if not is_nameable(path):
        raise InputError(f"problems.path {path!r}: no file has such a name")
    if path.startswith("~"):
        path = _at_home(path)
    if path.startswith("s3://") or _exists(path):
        yield from _rows_of_files(path)
    elif _looks_like_a_file(path):
        raise InputError(f"problems.path {path!r}: no such file or folder")
    else:
        yield from _rows_of_hub(problems)


def _at_home(path: str) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise InputError(f"problems.path {path!r}: no such user; write the home folder out") from error


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:  # too long a name, for one
        raise InputError(f"problems.path {path!r:.200}: {error.strerror}") from error


def _looks_like_a_file(path: str) -> bool:
    return (
        _is_data(path)
        or path.lower().endswith(".csv")
        or path.startswith((".", "/", "~"))
        or path.count("/") > 1
    )


def _is_data(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _is_hidden(key: str) -> bool:
    """Editors and systems leave copies of data in such files: .ipynb_checkpoints/, ._data.jsonl."""
    return any(part.startswith(".") for part in key.split("/"))


def _rows_of_files(path: str) -> Iterator[Row | BadRow]:
    for store, key in _files_at(path):
        name = f"{store.url}/{key}" if isinstance(store, S3Store) else str(Path(store.url) / key)
        with store.open(key) as file:
            if key.lower().endswith(".parquet"):
                yield from _rows_of_parquet(file, name)
            else:
                yield from _rows_of_json_lines(file, name, is_gzip=key.lower().endswith(".gz"))


def _files_at(path: str) -> Iterator[tuple[Store, str]]:
    """The file itself, or every data file below the folder, sorted."""
    store: Store
    if _is_data(path):
        folder, _, name = path.rpartition("/")
        store = open_store(folder) if path.startswith("s3://") else LocalStore(Path(path).absolute().parent)
        if not store.exists(name):
            raise InputError(f"problems.path {path!r}: no such file")
        yield store, name
        return
    if Path(path).is_file():
        raise InputError(f"problems.path {path!r}: not a kind of file that is read; {_CURE}")
    store = open_store(path)
    there = [key for key in store.keys("") if not _is_hidden(key)]
    keys = [key for key in there if _is_data(key)]
    if not keys:
        others = sorted({Path(key).suffix or Path(key).name for key in there})[:5]
        has = f" (it has: {', '.join(others)})" if others else ""
        raise InputError(f"problems.path {path!r} holds no file that is read{has}; {_CURE}")
    yield from ((store, key) for key in keys)


def _rows_of_json_lines(file: BinaryIO, name: str, *, is_gzip: bool) -> Iterator[Row | BadRow]:
    number = 0
    try:
        for number, line in enumerate(_lines(gzip.GzipFile(fileobj=file) if is_gzip else file), start=1):
            if number == 1 and _ARRAY.match(line):
                raise InputError(f"{name} is one JSON array; write one object a line: jq -c '.[]' FILE")
            if len(line) > MAX_LINE_BYTES:
                detail = f"more than {MAX_LINE_BYTES >> 20} MiB in one line"
                yield BadRow(f"{name} line {number}", detail, _start_of(line))
            elif line.strip():
                yield _row_of_line(line, f"{name} line {number}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        detail = f"the file breaks off or is not gzip: {error}; the rest of it is missing"
        yield BadRow(f"{name} line {number + 1}", detail, "", kind="file breaks off")
    except OSError as error:
        raise StorageError(f"cannot read on in {name} after line {number}: {error}") from error


def _lines(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Each line; of one that is too long its beginning, one byte past the limit."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)


def _row_of_line(line: bytes, place: str) -> Row | BadRow:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(place, f"not JSON: {str(error)[:100]}", _start_of(line))
    if not isinstance(fields, dict):
        return BadRow(place, f"not a JSON object but {type(fields).__name__}", _start_of(line))
    return Row(place, fields)


def _start_of(line: bytes) -> str:
    return line[:500].decode("utf-8", "replace")


def _rows_of_parquet(file: BinaryIO, name: str) -> Iterator[Row | BadRow]:
    try:
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
            for fields in batch.to_pylist():
                number += 1
                yield Row(f"{name} row {number}", fields)
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:  # dates past Python's, too
        raise InputError(f"{name} is not a readable Parquet file: {str(error)[:200]}") from error


def _rows_of_hub(problems: Problems) -> Iterator[Row | BadRow]:
    name = problems.path
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"problems.path {name!r} is no file or folder here; "
            "to read it from the hub install drsft[hub] (pip install 'drsft[hub]')"
        ) from error
    try:
        dataset = datasets.load_dataset(name, problems.subset, split=problems.split)
    except Exception as error:  # the library raises its own, the hub's and requests' errors
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"problems.path {name!r} is no file or folder here and did not load from the hub: {reason}; "
            "without a network give the path of a local copy"
        ) from error
    for number, fields in enumerate(dataset, start=1):
        yield Row(f"{name} {problems.split} row {number}", dict(fields))
