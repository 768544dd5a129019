import fcntl
import json
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drsft.errors import StorageError
from drsft.run.shards import ShardSet, remove_unnamed
from drsft.storage import LocalStore, download_folder, open_store, read_table, table_bytes, upload_folder
from drsft.storage.failures import s3_endpoint


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_of_many_creators_exactly_one_wins(store: LocalStore) -> None:
    for key in ("a", "deep/b"):
        barrier = threading.Barrier(8)
        won: list[int] = []

        def race(
            number: int, key: str = key, barrier: threading.Barrier = barrier, won: list[int] = won
        ) -> None:
            barrier.wait()
            if store.create(key, f"writer {number}".encode()):
                won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.read(key) == f"writer {won[0]}".encode()


def test_nothing_but_whole_objects_is_listed(store: LocalStore, tmp_path: Path) -> None:
    store.put("x/1", b"one")
    (tmp_path / "x" / ".2.abc.tmp").write_bytes(b"half")
    assert list(store.keys("x")) == ["x/1"]
    assert list(store.keys("nothing")) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StorageError, match="cannot write"):
        LocalStore(blocked).put("key", b"data")
    assert blocked.read_text() == "not a folder"


def test_what_a_killed_writer_left_is_swept_and_a_living_ones_is_not(
    store: LocalStore, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from drsft.storage import LocalStore;"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL);"  # in the middle of the write
        "LocalStore(Path(sys.argv[1])).put('rewrite/data', b'half')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    [left] = (tmp_path / "rewrite").iterdir()
    living = tmp_path / "rewrite" / ".other.abc.tmp"
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store.sweep() == 1
        assert living.exists()
    assert not left.exists()
    assert store.sweep() == 1
    store.put("rewrite/data", b"whole")
    assert store.sweep() == 0
    assert store.read("rewrite/data") == b"whole"


def test_reading_what_is_not_there_names_it(store: LocalStore) -> None:
    with pytest.raises(StorageError, match=r"absent\.json"):
        store.read("absent.json")


def test_folders_and_tables_survive_a_round_trip(store: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "f").write_bytes(b"f")
    upload_folder(store, source, "kept")
    download_folder(store, "kept", tmp_path / "target")
    assert (tmp_path / "target/sub/f").read_bytes() == b"f"
    table = pa.table({"a": [1, 2], "b": [["x"], []]})
    store.put("t.parquet", table_bytes(table))
    assert read_table(store, "t.parquet") == table


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://"])
def test_a_store_of_unknown_kind_is_refused(url: str) -> None:
    with pytest.raises(StorageError):
        open_store(url)


def test_an_endpoint_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    store = open_store("s3://bucket/run")
    for call in (lambda: store.read("x"), lambda: store.create("x", b""), lambda: list(store.keys(""))):
        with pytest.raises(StorageError) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert "127.0.0.1:9" in str(caught.value)


def test_the_first_commit_of_a_shard_stands_and_the_losers_data_goes(store: LocalStore) -> None:
    shards = ShardSet(store, "stage")
    first = shards.commit("00000", pa.table({"a": [1]}), {"tokens": 3})
    second = shards.commit("00000", pa.table({"a": [2]}))
    assert second == first
    assert shards.table("00000").to_pylist() == [{"a": 1}]
    assert len(list(store.keys("stage/data"))) == 1
    assert shards.done() == {"00000"}
    assert shards.commits()["00000"].summary == {"tokens": 3}


def test_the_same_shard_done_twice_changes_nothing(store: LocalStore) -> None:
    shards = ShardSet(store, "stage")
    table = pa.table({"a": [1]})
    assert shards.commit("00000", table) == shards.commit("00000", table)
    assert shards.table("00000") == table


def test_data_without_a_commit_is_not_there(store: LocalStore) -> None:
    store.put("stage/data/00001-abc.parquet", b"half a shard")
    shards = ShardSet(store, "stage")
    assert shards.done() == set()
    assert shards.tables() == []


class _KilledBeforeItsCommit(LocalStore):
    def create(self, key: str, data: bytes) -> bool:
        raise KeyboardInterrupt


@pytest.mark.parametrize("prefix", ["rewrite", "round-2-1234abcd/rewrite", "evaluate/base/held-out-5f"])
def test_data_of_a_killed_writer_goes_when_another_has_done_its_shard(tmp_path: Path, prefix: str) -> None:
    folder, _, name = prefix.rpartition("/")
    run, whole = LocalStore(tmp_path / folder), LocalStore(tmp_path)
    shards = ShardSet(run, name)

    def be_killed() -> None:
        with pytest.raises(KeyboardInterrupt):
            ShardSet(_KilledBeforeItsCommit(run.root), name).commit("00-1", pa.table({"a": ["once"]}))

    be_killed()
    assert remove_unnamed(whole) == 0, "its writer may still live, and commit it"
    shards.commit("00-1", pa.table({"a": ["again"]}))
    shards.commit("00-2", pa.table({"a": ["other"]}))
    assert remove_unnamed(whole) == 1
    be_killed()  # by one that came too late
    assert remove_unnamed(whole) == 1
    rows = pq.read_table(tmp_path / prefix / "data").to_pylist()
    assert rows == [{"a": "again"}, {"a": "other"}]
    assert remove_unnamed(whole) == 0


def test_a_commit_that_names_nothing_costs_no_data(store: LocalStore, tmp_path: Path) -> None:
    for name in ("0" * 16, "1" * 16):
        store.put(f"stage/data/00000-{name}.parquet", table_bytes(pa.table({"a": [name]})))
    for named in ("stage/data/elsewhere.parquet", ""):
        (tmp_path / "stage/commits").mkdir(exist_ok=True)
        (tmp_path / "stage/commits/00000.json").write_text(json.dumps({"data_key": named, "num_rows": 1}))
        assert remove_unnamed(store) == 0
    assert len(list(store.keys("stage/data"))) == 2


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_variable_that_holds_no_url_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "localhost:9000")
    with pytest.raises(StorageError, match=rf"^{variable} 'localhost:9000' is not the URL of a server"):
        s3_endpoint()
