"""Implements the commit protocol: a shard is done when its commit object exists. That object is created
exactly once.

The data object is written first; its name contains the hash of its content. The small commit object, which
names it, is created last by one exclusive put. A retried task, or a second driver, may do the same shard
again: it then writes either the same object, or one that no commit names and that it removes itself. With a
fixed data key, a late writer with a non-deterministic engine could overwrite committed data.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from drsft.errors import DamagedError, StorageError
from drsft.run.layout import ShardFolder
from drsft.storage import Store, table_bytes, table_of_bytes
from drsft.storage.typed import read_stored

__all__ = ["Commit", "ShardSet", "remove_unnamed", "withdraw_damaged"]


Summary = TypeVar("Summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The commit of a shard; `summary` is the JSON that drsft/run/summary.py writes and reads."""

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
        """Stores the table as the shard's data, commits the shard, and returns the commit.

        If the shard is committed already, returns the earlier commit; the new data is removed if it differs.
        """
        data = table_bytes(table)
        data_key = self._folder.data(shard, data)
        self._store.put(data_key, data)
        body = {"data_key": data_key, "num_rows": table.num_rows, "summary": summary or {}}
        stored = {**body, "checksum": _checksum(body)}
        if self._store.create(self._folder.commit(shard), json.dumps(stored).encode()):
            return Commit(shard=shard, data_key=data_key, num_rows=table.num_rows, summary=summary or {})
        winner = self.find(shard)
        if winner is None:
            raise StorageError(
                f"{self._store.url} says that shard {shard} is committed already, but has no commit of it; "
                "check the store: drsft doctor storage URL"
            )
        if winner.data_key != data_key:
            self._store.delete(data_key)
        return winner

    def find(self, shard: str) -> Commit | None:
        key = self._folder.commit(shard)
        return self._read(shard, key) if self._store.exists(key) else None

    def commits(self) -> dict[str, Commit]:
        """Returns the commits of all shards that are done, by the shards' names."""
        found = {}
        for key in self._store.keys(self._folder.commits):
            shard = self._folder.shard_of(key)
            found[shard] = self._read(shard, key)
        return found

    def done(self) -> set[str]:
        """Returns the names of the shards that are done, from one listing."""
        return {self._folder.shard_of(key) for key in self._store.keys(self._folder.commits)}

    def summaries(self, read: Callable[[Mapping[str, Any]], Summary]) -> list[Summary]:
        """Returns the summaries of all commits, converted from JSON by `read`, in order of the shards.

        Raises DamagedError where `read` raises ValueError.
        """
        found = []
        for shard, commit in sorted(self.commits().items()):
            try:
                found.append(read(commit.summary))
            except ValueError as error:
                where = f"{self._store.url}/{self._folder.commit(shard)}"
                raise DamagedError(f"{where} is damaged: {' '.join(str(error).split())[:200]}") from error
        return found

    def table(self, shard: str) -> pa.Table:
        commit = self.find(shard)
        if commit is None:
            raise StorageError(
                f"shard {shard} of {self._folder.prefix} in {self._store.url} is not committed yet"
            )
        return self.table_of(commit)

    def tables(self) -> list[pa.Table]:
        return [self.table_of(commit) for _, commit in sorted(self.commits().items())]

    def table_of(self, commit: Commit) -> pa.Table:
        """Returns the data of a commit.

        Raises DamagedError if the object is missing, or its bytes are not those that were committed.
        """
        where = f"{self._store.url}/{commit.data_key}"
        try:
            data = self._store.read(commit.data_key)
        except StorageError as error:
            if self._store.exists(commit.data_key):
                raise
            raise DamagedError(
                f"{where} is gone, although it is committed; drsft run with this run's configuration does "
                "the shard again"
            ) from error
        if not self._folder.is_content(commit.data_key, data):
            raise DamagedError(
                f"{where} is damaged: its checksum is not the one in its name; drsft run with this run's "
                "configuration does the shard again"
            )
        return table_of_bytes(data, where)

    def _read(self, shard: str, key: str) -> Commit:
        stored = read_stored(self._store, key, _Stored)
        body = {"data_key": stored.data_key, "num_rows": stored.num_rows, "summary": stored.summary}
        if stored.checksum not in (None, _checksum(body)):
            raise DamagedError(
                f"{self._store.url}/{key} is damaged: its checksum is not that of its content; drsft run "
                "with this run's configuration does the shard again"
            )
        return Commit(shard=shard, data_key=stored.data_key, num_rows=stored.num_rows, summary=stored.summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The JSON of a commit."""

    data_key: str
    num_rows: int
    summary: dict[str, Any] = field(default_factory=dict)
    checksum: str | None = None  # of the rest; older versions wrote none


def _checksum(body: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(body))
    return hashlib.blake2b(json.dumps(as_read, sort_keys=True).encode(), digest_size=8).hexdigest()


def withdraw_damaged(store: Store) -> list[str]:
    """Removes the commits of shards whose data or commit is damaged, or whose data is missing.

    Returns the removed shards as "<folder>/<shard>". It reads all data in the store. The command that calls
    this then computes these shards again.
    """
    found = [owner for key in store.keys("") if (owner := ShardFolder.committed(key))]
    damaged = [(folder, shard) for folder, shard in found if _is_damaged(store, folder, shard)]
    for folder, shard in damaged:
        store.delete(folder.commit(shard))
    return [f"{folder.prefix}/{shard}" for folder, shard in damaged]


def _is_damaged(store: Store, folder: ShardFolder, shard: str) -> bool:
    try:
        commit = ShardSet(store, folder.prefix).find(shard)
    except DamagedError:
        return True
    if commit is None:
        return False
    key = folder.named(commit.data_key)
    return not store.exists(key) or not folder.is_content(key, store.read(key))


def remove_unnamed(store: Store) -> int:
    """Removes data of committed shards that their commits do not name: killed writers leave it behind.

    Returns the number of removed objects. No commit will ever name one of them, since a commit is never
    replaced.
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
    """Returns the data objects that the commit does not name.

    If the named object is missing there are none, so that a damaged commit costs no data.
    """
    if commit is None:
        return set()
    named = {key for key in keys if key.endswith(commit.data_key)}  # its round may be deeper in the store
    return keys - named if named else set()
