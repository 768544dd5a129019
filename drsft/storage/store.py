"""The interface of a store."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

__all__ = ["Store"]


class Store(Protocol):
    """A place for objects. Keys are relative, with forward slashes.

    Errors that the user can fix are StorageErrors.
    """

    @property
    def url(self) -> str: ...

    def create(self, key: str, data: bytes) -> bool:
        """Creates a key that must not exist; returns False, and changes nothing, if it does."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def put_file(self, key: str, path: Path) -> None:
        """Writes the content of a local file, piece by piece, so that memory does not depend on its size."""
        ...

    def read(self, key: str) -> bytes: ...

    def read_range(self, key: str, *, start: int, length: int) -> bytes:
        """Returns `length` bytes of the object from `start` on; fewer if it ends before."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Returns the object as a seekable file that is read piece by piece; reading it may raise OSError."""
        ...

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields all keys under the folder `prefix`, sorted."""
        ...

    def delete(self, key: str) -> None: ...

    def sweep(self) -> int:
        """Removes half-written objects of killed writers, which no reader ever sees; returns how many.

        In S3 a live writer may lose its upload too, and gets a StorageError.
        """
        ...

    def within(self, prefix: str) -> "Store": ...
