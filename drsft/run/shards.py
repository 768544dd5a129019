"""The commit protocol: a shard is done when its commit object exists, and that is created exactly once.

The data object is written first; its name carries the hash of its content. The small commit object, which
names it, is created last by one exclusive put. A retried task or a second driver that does the same shard
again writes either the same object, or another one that no commit names and that it removes itself. With a
fixed data key a late writer with a non-deterministic engine could overwrite what is committed.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from drsft.errors import StorageError
from drsft.run.layout import ShardFolder
from drsft.storage import Store, read_table, table_bytes
from drsft.storage.typed import read_stored

__all__ = ["Commit", "ShardSet", "remove_unnamed"]


Summary = TypeVar("Summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """`summary` is the JSON that drsft/run/summary.py writes and reads."""

    shard: str
    data_key: str
    num_rows: int
    summary: dict[str, Any] = field(default_factory=dict)


class ShardSet:
    """The shards of one stage, below `prefix` of a store: data in `data/`, commits in `commits/`."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._folder = ShardFolder(prefix)

    def commit(self, shard: str, table: pa.Table, summary: dict[str, Any] | None = None) -> Commit:
        """Publishes a shard. If it is committed already, removes this data and returns the earlier commit."""
        data = table_bytes(table)
        data_key = self._folder.data(shard, data)
        self._store.put(data_key, data)
        body = {"data_key": data_key, "num_rows": table.num_rows, "summary": summary or {}}
        if self._store.create(self._folder.commit(shard), json.dumps(body).encode()):
            return Commit(shard=shard, data_key=data_key, num_rows=table.num_rows, summary=summary or {})
        winner = self.find(shard)
        if winner is None:
            raise StorageError(f"commit of shard {shard} was refused, yet there is none in {self._store.url}")
        if winner.data_key != data_key:
            self._store.delete(data_key)
        return winner

    def find(self, shard: str) -> Commit | None:
        key = self._folder.commit(shard)
        return self._read(shard, key) if self._store.exists(key) else None

    def commits(self) -> dict[str, Commit]:
        """All shards that are done, by name."""
        found = {}
        for key in self._store.keys(self._folder.commits):
            shard = self._folder.shard_of(key)
            found[shard] = self._read(shard, key)
        return found

    def done(self) -> set[str]:
        """The names of the shards that are done, from one listing."""
        return {self._folder.shard_of(key) for key in self._store.keys(self._folder.commits)}

    def summaries(self, read: Callable[[Mapping[str, Any]], Summary]) -> list[Summary]:
        """What all commits say, in order of the shards; `read` raises ValueError for what is damaged."""
        found = []
        for shard, commit in sorted(self.commits().items()):
            try:
                found.append(read(commit.summary))
            except ValueError as error:
                where = f"{self._store.url}/{self._folder.commit(shard)}"
                raise StorageError(f"{where} is damaged: {' '.join(str(error).split())[:200]}") from error
        return found

    def table(self, shard: str) -> pa.Table:
        commit = self.find(shard)
        if commit is None:
            raise StorageError(
                f"shard {shard} of {self._folder.prefix} in {self._store.url} is not committed yet"
            )
        return read_table(self._store, commit.data_key)

    def tables(self) -> list[pa.Table]:
        return [read_table(self._store, commit.data_key) for _, commit in sorted(self.commits().items())]

    def _read(self, shard: str, key: str) -> Commit:
        return read_stored(self._store, key, Commit, shard=shard)


def remove_unnamed(store: Store) -> int:
    """Removes data that killed writers left beside committed shards, anywhere in the store; returns how many.

    A commit is never replaced, so no commit will ever name such an object.
    """
    objects: defaultdict[tuple[ShardFolder, str], set[str]] = defaultdict(set)
    for key in store.keys(""):
        if owner := ShardFolder.owner_of(key):
            objects[owner].add(key)
    unnamed = [
        key
        for (folder, shard), keys in objects.items()
        if len(keys) > 1
        for key in _unnamed(keys, ShardSet(store, folder.prefix).find(shard))
    ]
    for key in unnamed:
        store.delete(key)
    return len(unnamed)


def _unnamed(keys: set[str], commit: Commit | None) -> set[str]:
    """None where the named one is not there: a damaged commit must cost no data."""
    if commit is None:
        return set()
    named = {key for key in keys if key.endswith(commit.data_key)}  # its round may lie deeper in the store
    return keys - named if named else set()
