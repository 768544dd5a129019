"""Reads Parquet and Arrow (Feather, IPC streams): typed columns, batch by batch."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from drsft.config import Problems
from drsft.errors import InputError
from drsft.intake.formats.row import BadRow, Row
from drsft.intake.formats.stream import Stream

__all__ = ["begins_as_arrow", "begins_as_parquet", "read_arrow", "read_parquet"]

BATCH_ROWS = 1024
_FILE = b"ARROW1"
_STREAM = b"\xff\xff\xff\xff"


def begins_as_parquet(stream: Stream) -> bool:
    return stream.head_bytes.startswith(b"PAR1")


def begins_as_arrow(stream: Stream) -> bool:
    return stream.head_bytes.startswith((_FILE, _STREAM))


def read_parquet(stream: Stream, problems: Problems) -> Iterator[Row | BadRow]:
    """Yields the rows of a Parquet file; raises InputError if the file is not a readable Parquet file.

    It never yields a BadRow, and `problems` is not used: all formats have the same signature.
    """
    yield from _rows(stream, "Parquet", lambda file: pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS))


def read_arrow(stream: Stream, problems: Problems) -> Iterator[Row | BadRow]:
    """Yields the rows of an Arrow file or stream; raises InputError if it is not readable as one."""
    is_file = stream.head_bytes.startswith(_FILE)
    yield from _rows(stream, "Arrow", _batches_of_file if is_file else pa.ipc.open_stream)


def _batches_of_file(file: Any) -> Iterator[pa.RecordBatch]:
    opened = pa.ipc.open_file(file)
    return (opened.get_batch(number) for number in range(opened.num_record_batches))


def _rows(stream: Stream, kind: str, open_batches: Callable[[Any], Any]) -> Iterator[Row | BadRow]:
    if stream.is_packed:
        raise InputError(
            f"{stream.name} is a {kind} file within {stream.packing}; unpack it first "
            f"(compression inside the {kind} format is fine)"
        )
    stream.stored.seek(0)
    number = 0
    try:
        for batch in open_batches(stream.stored):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                for fields in _fields_of(batch.slice(start, BATCH_ROWS)):
                    number += 1
                    yield Row(f"{stream.name} row {number}", fields)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{stream.name} is not a readable {kind} file: {reason}") from error


def _fields_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    columns = [_values(column) for column in batch.columns]
    names = _distinct(batch.schema.names)
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _distinct(names: list[str]) -> list[str]:
    return [f"{name}_{n + 1}" if (n := names[:at].count(name)) else name for at, name in enumerate(names)]


def _values(column: pa.Array) -> list[Any]:
    """Returns the column's values in Python.

    Returns None for values that Python cannot hold, such as the year 20000.
    """
    try:
        exact = _with(column.type, _exact)
        if exact != column.type:  # a float of 32 bits is 0.1, not the 64-bit number 0.10000000149 beside it
            column = pc.cast(pc.cast(column, _with(column.type, _as_text)), exact)
        return list(column.to_pylist(maps_as_pydicts="lossy"))
    except (pa.ArrowException, ValueError, ArithmeticError):
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, ArithmeticError):
        return None


def _exact(kind: pa.DataType) -> pa.DataType:
    """Returns the type to cast to, so that Python prints the values as the file has them."""
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    return kind


def _as_text(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_float32(kind) or pa.types.is_float16(kind) else _exact(kind)


def _with(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Returns the type with `change` applied to its scalar types, at any depth."""
    if pa.types.is_struct(kind):
        return pa.struct([one.with_type(_with(one.type, change)) for one in kind.fields])
    if pa.types.is_large_list(kind):
        return pa.large_list(_with(kind.value_type, change))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_with(kind.value_type, change), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_with(kind.value_type, change))
    return change(kind)
