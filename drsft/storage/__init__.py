"""Stores a run in a local folder or an S3 prefix; both give the same guarantees.

A reader never sees half an object, and if several writers create the same new key, exactly one succeeds.
"""

from pathlib import Path

from drsft.errors import StorageError
from drsft.storage.failures import is_nameable, without_login
from drsft.storage.files import download_folder, read_table, table_bytes, table_of_bytes, upload_folder
from drsft.storage.local import LocalStore
from drsft.storage.s3 import S3Store
from drsft.storage.store import Store

__all__ = [
    "LocalStore",
    "S3Store",
    "Store",
    "download_folder",
    "open_store",
    "read_table",
    "table_bytes",
    "table_of_bytes",
    "upload_folder",
]


def open_store(url: str) -> Store:
    """Returns the store at a local folder or at s3://bucket/prefix."""
    if url.startswith("s3://"):
        return S3Store(url)
    if "://" in url:
        raise StorageError(f"storage {without_login(url)!r}: give a folder or s3://bucket/prefix")
    if not url.strip() or not is_nameable(url):
        raise StorageError(
            f"storage {url!r} is not the name of a folder; give a folder or s3://bucket/prefix"
        )
    try:
        return LocalStore(Path(url).expanduser().absolute())
    except RuntimeError as error:
        raise StorageError(f"storage {url!r}: no user has this name; write the path without ~") from error
