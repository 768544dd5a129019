"""What a store can do, wherever it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

__all__ = ["Store"]


class Store(Protocol):
    """Keys are relative, with forward slashes. Errors that the user can mend are StorageErrors."""

    @property
    def url(self) -> str: ...

    def create(self, key: str, data: bytes) -> bool:
        """Write a key that must not exist; False, and nothing changed, when it does."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def put_file(self, key: str, path: Path) -> None:
        """Writes the content of a local file, piece by piece: memory does not depend on its size."""
        ...

    def read(self, key: str) -> bytes: ...

    def read_range(self, key: str, *, start: int, length: int) -> bytes:
        """Returns `length` bytes of the object from `start` on; fewer where it ends before."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Returns the object as a file that can be sought in, read piece by piece.

        Reading it may raise OSError.
        """
        ...

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields all keys under the folder `prefix`, sorted."""
        ...

    def delete(self, key: str) -> None: ...

    def sweep(self) -> int:
        """Removes what writers that were killed left half-written; how much it was. No reader ever sees it.

        In S3 a writer that still lives may lose its upload too, and gets a StorageError.
        """
        ...

    def within(self, prefix: str) -> "Store": ...
