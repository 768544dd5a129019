"""Bytes of committed shards that change on the store: detected at their next read, withdrawn, done again."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.errors import DamagedError
from drsft.run.shards import ShardSet, withdraw_damaged
from drsft.storage import LocalStore, read_table, table_bytes

TABLE = pa.table({"a": list(range(40)), "b": [f"text {n}" for n in range(40)]})


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << (at % 8)
    path.write_bytes(bytes(data))


@given(at=st.integers(min_value=0, max_value=1 << 20))
def test_one_flipped_bit_anywhere_in_a_shard_is_detected(
    tmp_path_factory: pytest.TempPathFactory, at: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    shards = ShardSet(LocalStore(folder), "rewrite")
    commit = shards.commit("00000", TABLE)
    _flip(folder / commit.data_key, at)
    for read in (lambda: shards.table("00000"), shards.tables, lambda: shards.table_of(commit)):
        with pytest.raises(
            DamagedError, match=r"00000-[0-9a-f]{16}\.parquet is damaged.*does the shard again"
        ):
            read()


@given(at=st.integers(min_value=0, max_value=1 << 20))
def test_one_flipped_bit_anywhere_in_a_commit_is_detected_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, at: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    shards = ShardSet(LocalStore(folder), "rewrite")
    commit = shards.commit("00000", TABLE, {"samples": {"own": 41}, "cpu_s": 0.1})
    _flip(folder / "rewrite/commits/00000.json", at)
    try:
        assert shards.find("00000") == commit
    except DamagedError:
        assert withdraw_damaged(LocalStore(folder)) == ["rewrite/00000"]


def test_data_that_is_gone_is_damage(tmp_path: Path) -> None:
    shards = ShardSet(LocalStore(tmp_path), "rewrite")
    commit = shards.commit("00000", TABLE)
    (tmp_path / commit.data_key).unlink()
    with pytest.raises(DamagedError, match=r"parquet is gone.*does the shard again"):
        shards.table("00000")
    assert withdraw_damaged(LocalStore(tmp_path)) == ["rewrite/00000"]


@pytest.mark.parametrize("prefix", ["rewrite", "round-2-1234abcd/rewrite", "evaluate/base/held-out-5f"])
def test_damaged_shards_are_withdrawn_and_the_others_kept(tmp_path: Path, prefix: str) -> None:
    top, _, name = prefix.rpartition("/")
    whole, shards = LocalStore(tmp_path), ShardSet(LocalStore(tmp_path / top), name)
    commits = {shard: shards.commit(shard, TABLE.slice(int(shard))) for shard in ("0", "1", "2", "3")}
    assert withdraw_damaged(whole) == []
    _flip(tmp_path / top / commits["1"].data_key, 77)
    (tmp_path / top / commits["2"].data_key).unlink()
    (tmp_path / prefix / "commits/3.json").write_text('{"data_key": 4')
    assert withdraw_damaged(whole) == [f"{prefix}/1", f"{prefix}/2", f"{prefix}/3"]
    assert shards.done() == {"0"}
    for shard in ("1", "2", "3"):
        shards.commit(shard, TABLE.slice(int(shard)))
        assert shards.table(shard) == TABLE.slice(int(shard))
    assert withdraw_damaged(whole) == []


def test_pages_of_every_table_carry_checksums(tmp_path: Path) -> None:
    """A flipped bit is detected also where no name has a hash, as of the planned problems."""
    store = LocalStore(tmp_path)
    random = pa.table({"a": [n**5 * 0x9E3779B97F4A7C15 % (1 << 62) for n in range(5000)]})
    store.put("t", table_bytes(random))
    assert read_table(store, "t") == random
    _flip(tmp_path / "t", 20_000)
    with pytest.raises(DamagedError):
        read_table(store, "t")
