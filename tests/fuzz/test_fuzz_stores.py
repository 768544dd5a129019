"""Keys, URLs and what lies in a run's folder: nothing leads out of the store, what is damaged is named."""

import errno
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from drsft.cli.inspect import Filters, browse
from drsft.errors import StorageError
from drsft.run.history import read_history
from drsft.run.lease import Holder
from drsft.run.plan import Plan, read_plan
from drsft.run.run import find_run
from drsft.run.shards import ShardSet
from drsft.storage import LocalStore, S3Store, download_folder, open_store, read_table
from drsft.storage.failures import local_failure
from drsft.storage.typed import read_stored
from drsft.train import checkpoint
from tests.fuzz.doors import TEXT, VALUES, changed, damaged, folder, knock

PARTS = st.sampled_from(["..", ".", "", "a", "b.json", "~", "/", "...", " ", "\x00", "é", "a\nb", "-"])
KEYS = st.builds("/".join, st.lists(PARTS, min_size=1, max_size=5)) | TEXT


@given(key=KEYS)
def test_no_key_leads_out_of_its_store(key: str) -> None:
    with folder() as here:
        (here / "b.json").write_bytes(b"the neighbour's")
        store = LocalStore(here / "store" / "deep")
        for call in (
            lambda: store.put(key, b"x"),
            lambda: store.create(key, b"x"),
            lambda: store.read(key),
            lambda: store.exists(key),
            lambda: list(store.keys(key)),
            lambda: store.delete(key),
            lambda: store.within(key).put("x", b"x"),
        ):
            knock("keys", call)
        outside = [path for path in here.rglob("*") if path.is_file() and not path.is_relative_to(store.root)]
        assert outside == [here / "b.json"]
        assert outside[0].read_bytes() == b"the neighbour's"


@given(keys=st.lists(KEYS, max_size=3))
def test_no_name_in_a_store_leads_out_of_the_folder_it_is_fetched_to(keys: list[str]) -> None:
    class Listed(LocalStore):
        """As a bucket that anybody may write to: its keys are any text."""

        def keys(self, prefix: str):  # type: ignore[no-untyped-def]
            yield from sorted(f"model/{key}" for key in keys)

        def read(self, key: str) -> bytes:
            return b"x"

    with folder() as here:
        knock("names in a bucket", lambda: download_folder(Listed(here), "model", here / "a" / "into"))
        assert [
            path for path in here.rglob("*") if path.is_file() and not path.is_relative_to(here / "a/into")
        ] == []


@given(url=KEYS | st.builds("s3://{}".format, KEYS))
def test_urls(url: str) -> None:
    store = knock("URLs of stores", lambda: open_store(url))
    if isinstance(store, S3Store):
        assert ".." not in store.url.split("/")
        assert open_store(store.url).url == store.url


@pytest.mark.parametrize(
    "url", ["s3://key:canary-secret@bucket/x", "http://me:canary-secret@host/x", "s3://canary-secret@b"]
)
def test_a_secret_in_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_store(url)
    assert "canary-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["http://me:canary-secret@127.0.0.1:9", "minio", "ftp://x", "http://a b"]
)
def test_an_endpoint_that_is_none_is_named_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    store = S3Store("s3://bucket/x")
    for call in (lambda: store.create("x", b""), lambda: store.read("x"), lambda: list(store.keys(""))):
        with pytest.raises(StorageError, match="AWS_ENDPOINT_URL") as caught:
            call()
        assert "canary-secret" not in str(caught.value)


RUN = {
    "run.json": {"created": "2026", "target_fingerprint": "f"},
    "config.json": {"name": "x", "problems": {"path": "p"}, "target": {"model": "embedded"}},
    "problems/plan.json": {
        "path": "p", "num_read": 1, "num_problems": 1, "num_duplicates": 0, "quarantined": {}, "digest": "d",
        "shards": {"00000": 1},
    },
    "rewrite/commits/00000.json": {"data_key": "rewrite/data/00000-a.parquet", "num_rows": 1, "summary": {}},
    "lease/000001.json": {"host": "h", "pid": 1, "machine": "m", "began": "1", "since": "s"},
    "history/000001-rewrite.json": {"term": 1, "stage": "rewrite", "began_at": 1.0, "wall_s": 2.0},
    "checkpoints/step-000001/commit.json": {"step": 1, "num_workers": 1},
}  # fmt: skip


@given(tree=changed(RUN), bad=damaged(b'{"a": 1}'), at=st.none() | st.sampled_from(list(RUN)))
def test_a_runs_folder(tree: dict[str, object], bad: bytes, at: str | None) -> None:
    """Of another person, or damaged."""
    with folder() as here:
        store = LocalStore(here)
        for key, content in tree.items():
            if key in RUN:
                store.put(key, json.dumps(content).encode())
        if at is not None:
            store.put(at, bad)
        for call in (
            lambda: find_run(str(here)).config,
            lambda: read_plan(store),
            lambda: ShardSet(store, "rewrite").commits(),
            lambda: ShardSet(store, "rewrite").table("00000"),
            lambda: read_stored(store, "lease/000001.json", Holder),
            lambda: read_history(store),
            lambda: checkpoint.commits(store),
            lambda: browse(
                find_run(str(here)),
                Filters(),
                limit=1,
                show_attempts=True,
                console=Console(file=io.StringIO()),
            ),
        ):
            knock("runs' folders", call)


@given(fields=VALUES)
def test_an_object_is_its_type_or_damaged(fields: object) -> None:
    with folder() as here:
        LocalStore(here).put("plan.json", json.dumps(fields).encode())
        knock("objects of a run", lambda: read_stored(LocalStore(here), "plan.json", Plan))


@given(data=damaged(b"PAR1" + b"\x15\x04" * 40 + b"PAR1"))
def test_tables(data: bytes) -> None:
    with folder() as here:
        LocalStore(here).put("t.parquet", data)
        knock("tables of a run", lambda: read_table(LocalStore(here), "t.parquet"))


@pytest.mark.parametrize("data_key", ["/etc/hostname", "../secret.parquet", "rewrite/../../secret.parquet"])
def test_a_commit_cannot_name_a_file_outside_the_run(tmp_path: Path, data_key: str) -> None:
    LocalStore(tmp_path).put("secret.parquet", b"")
    store = LocalStore(tmp_path / "run")
    shards = ShardSet(store, "rewrite")
    shards.commit("00000", pa.table({"a": [1]}))
    store.put("rewrite/commits/00000.json", json.dumps({"data_key": data_key, "num_rows": 1}).encode())
    with pytest.raises(StorageError, match="not a relative path"):
        shards.table("00000")


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*file/x: .*; check the folder"):
        LocalStore(tmp_path / "file").put("x", b"")
    with pytest.raises(StorageError, match="Is a directory"):
        LocalStore(tmp_path.parent).put(tmp_path.name, b"")
    assert not list(tmp_path.parent.glob(".*.tmp"))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(local_failure("write", tmp_path, full)).endswith(
        "No space left on device; free space on this disk"
    )
