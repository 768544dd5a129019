"""Reads and writes tables and folders in a store."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from drsft.errors import DamagedError, StorageError
from drsft.storage.failures import (
    checked_key,
    local_failure,
)
from drsft.storage.store import Store

__all__ = ["download_folder", "read_table", "table_bytes", "table_of_bytes", "upload_folder"]

PIECE_BYTES = 8 << 20


def table_bytes(table: pa.Table) -> bytes:
    """Returns the table as one Parquet file with a checksum of each page; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def read_table(store: Store, key: str) -> pa.Table:
    return table_of_bytes(store.read(key), f"{store.url}/{key}")


def table_of_bytes(data: bytes, where: str) -> pa.Table:
    """Returns the table in a Parquet file. Raises DamagedError if it is damaged or not Parquet."""
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise DamagedError(f"{where} is damaged: not a Parquet file: {reason}") from error


def upload_folder(store: Store, folder: Path, key: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put_file(f"{key}/{path.relative_to(folder).as_posix()}", path)


def download_folder(store: Store, key: str, folder: Path) -> None:
    """Downloads everything below `key`. Raises StorageError for a name that would lead out of `folder`."""
    for name in store.keys(key):
        path = folder / checked_key(name).removeprefix(key).lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for piece in _pieces(store, name):
                    file.write(piece)
        except OSError as error:
            raise local_failure("write", path, error) from error


def _pieces(store: Store, key: str) -> Iterator[bytes]:
    """Yields the object's content, piece by piece."""
    with store.open(key) as file:
        while True:
            try:
                piece = file.read(PIECE_BYTES)
            except OSError as error:
                raise StorageError(
                    f"cannot read {store.url}/{key}: {error}; run the command again"
                ) from error
            if not piece:
                return
            yield piece
