"""Implements a store in a local folder."""

import fcntl
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from drsft.storage.failures import (
    checked_key,
    local_failure,
)

__all__ = ["LocalStore", "open_local"]

_PIECE_BYTES = 4 << 20  # of a file that is copied


def open_local(path: Path) -> BinaryIO:
    """Returns a file of this machine, opened for reading. Raises StorageError."""
    try:
        return path.open("rb")
    except OSError as error:
        raise local_failure("read", path, error) from error


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def within(self, prefix: str) -> "LocalStore":
        return LocalStore(self._path(prefix))

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    @contextmanager
    def _staged(self, key: str, data: BinaryIO) -> Iterator[tuple[Path, Path]]:
        """Writes the data to a temporary file in the same folder.

        Yields the file and its final place, then removes the file.
        """
        target = self._path(key)
        staging = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(staging, "wb") as file:
                with suppress(OSError):  # a file system without locks: sweep leaves its files alone
                    fcntl.flock(file, fcntl.LOCK_EX)
                shutil.copyfileobj(data, file, _PIECE_BYTES)
                file.flush()
                os.fsync(file.fileno())
                yield staging, target
        except OSError as error:
            raise local_failure("write", target, error) from error
        finally:
            with suppress(OSError):
                staging.unlink()

    def create(self, key: str, data: bytes) -> bool:
        with self._staged(key, io.BytesIO(data)) as (staging, target):
            try:
                os.link(staging, target)  # fails if the name exists; the content appears at once
            except FileExistsError:
                return False
        return True

    def put(self, key: str, data: bytes) -> None:
        with self._staged(key, io.BytesIO(data)) as (staging, target):
            os.replace(staging, target)

    def put_file(self, key: str, path: Path) -> None:
        with open_local(path) as file, self._staged(key, file) as (staging, target):
            os.replace(staging, target)

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except OSError as error:
            raise local_failure("read", self._path(key), error) from error

    def read_range(self, key: str, *, start: int, length: int) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise local_failure("read", self._path(key), error) from error

    def open(self, key: str) -> BinaryIO:
        return open_local(self._path(key))

    def exists(self, key: str) -> bool:
        try:
            return self._path(key).is_file()
        except OSError as error:
            raise local_failure("look up", self._path(key), error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._path(prefix)
        paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
        try:
            yield from sorted(path.relative_to(self.root).as_posix() for path in paths)
        except OSError as error:
            raise local_failure("list", folder, error) from error

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise local_failure("delete", self._path(key), error) from error

    def sweep(self) -> int:
        """Removes temporary files that killed writers left, and returns how many.

        A writer that still runs has locked its file, which therefore stays.
        """
        return sum(_remove_if_abandoned(path) for path in self.root.rglob(".*.tmp"))


def _remove_if_abandoned(staging: Path) -> bool:
    with suppress(OSError), staging.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        staging.unlink()
        return True
    return False
