"""A reader that looks at a run all the time while it is disturbed: what it can see must be whole."""

import io
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq

from drsft.errors import StorageError
from drsft.storage import Store

__all__ = ["Reader", "see"]


def see(store: Store, key: str) -> str | None:
    """What is wrong with an object as it lies there now; None when it is whole, or gone again."""
    try:
        data = store.read(key)
    except StorageError:
        return None  # not there any more, or nobody can read at the moment
    try:
        if key.endswith(".parquet"):
            pq.read_table(io.BytesIO(data))
        elif key.endswith(".json"):
            value = json.loads(data)
            if "/commits/" in key:
                num_rows = pq.read_table(io.BytesIO(store.read(value["data_key"]))).num_rows
                if num_rows != value["num_rows"]:
                    return f"{key}: {num_rows} rows, its commit says {value['num_rows']}"
    except StorageError as error:
        return _unless_down(store, key, error)
    except (ValueError, KeyError, pa.ArrowException) as error:
        return f"{key}: {len(data)} bytes, {error}"
    return None


def _unless_down(store: Store, key: str, error: StorageError) -> str | None:
    """A commit whose data cannot be read, unless the store itself cannot be reached."""
    try:
        store.read(key)
    except StorageError:
        return None
    return f"{key}: {error}"


class Reader:
    """`found` is everything that was not whole. Use as a context manager."""

    def __init__(self, store: Store, *, every_s: float = 0.5) -> None:
        self._store, self._every_s = store, every_s
        self._seen: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="reader", daemon=True)
        self.found: list[str] = []
        self.num_looks = 0

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.look()
            except StorageError:
                continue  # the store is down; what it shows when it is back counts

    def look(self) -> None:
        self.num_looks += 1
        for key in self._store.keys(""):
            # Records and commits never change; the others do.
            if key not in self._seen and (trouble := see(self._store, key)) is not None:
                self.found.append(trouble)
            if key.startswith(("rewrite/", "problems/")):
                self._seen.add(key)
