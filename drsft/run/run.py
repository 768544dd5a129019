"""Finished and unfinished runs as others find them: by folder, by s3:// URL, or by the configuration."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from drsft.config import RunConfig
from drsft.config.configfile import load_config
from drsft.errors import InputError
from drsft.run import layout
from drsft.run.rounds import Round, plan_rounds
from drsft.run.shards import Commit, ShardSet
from drsft.storage import Store, open_store, read_table
from drsft.storage.typed import read_stored

__all__ = [
    "find_config",
    "find_run",
    "last_round",
    "open_run",
    "record_tables",
    "rewritten_shards",
    "round_store",
]


def find_run(where: str, overrides: Sequence[str] = ()) -> Store:
    """The run at a folder or s3:// URL, or that a YAML configuration describes. Raises InputError."""
    if where.endswith((".yaml", ".yml")):
        config = load_config(Path(where), overrides)
        return open_run(config)
    if overrides:
        raise InputError(f"{overrides[0]!r}: overrides go with a configuration, and {where!r} is a run")
    store = open_store(where)
    if not store.exists(layout.MANIFEST):
        raise InputError(f"{where}: no run here; give a run's folder, its s3:// URL or its configuration")
    return store


def find_config(where: str) -> tuple[RunConfig, Store]:
    """The same with its configuration: that of a folder is the one it was last started with."""
    if where.endswith((".yaml", ".yml")):
        config = load_config(Path(where))
        return config, open_run(config)
    store = find_run(where)
    return read_stored(store, layout.CONFIG, RunConfig), store


def open_run(config: RunConfig) -> Store:
    """The run of a configuration. Raises InputError when it was never started."""
    store = open_store(config.storage).within(config.run_id)
    if not store.exists(layout.MANIFEST):
        raise InputError(
            f"there is no run {config.run_id} in {config.storage}; start it with drsft rewrite or drsft run"
        )
    return store


def round_store(run: Store, one: Round) -> Store:
    """Where a round lies: the first is the run itself, a later one a run inside it."""
    return run.within(one.prefix) if one.prefix else run


def last_round(config: RunConfig, run: Store) -> Store:
    """The newest round of a run that has records; the run itself where it has one round, or none yet."""
    newest = run
    for one in plan_rounds(config, run.url):
        store = round_store(run, one)
        if not ShardSet(store, layout.RECORDS).done():
            break
        newest = store
    return newest


def rewritten_shards(store: Store) -> dict[str, Commit]:
    """The shards that are rewritten so far, by name. Raises InputError when there is none."""
    commits = ShardSet(store, layout.RECORDS).commits()
    if not commits:
        raise InputError(f"{store.url} has no records yet; rewrite first: drsft rewrite CONFIG")
    return dict(sorted(commits.items()))


def record_tables(store: Store) -> Iterator[pa.Table]:
    """The records shard after shard; one shard is in memory at a time."""
    for commit in rewritten_shards(store).values():
        yield read_table(store, commit.data_key)
