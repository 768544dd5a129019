"""The S3 store against a real S3 server: the guarantees that the commit protocol stands on."""

import json
import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest

from drsft.config import Problems
from drsft.errors import BusyError, StorageError
from drsft.intake.problems import Intake, read_problems
from drsft.run.lease import Holder, Lease, LeaseTiming, acquire, held
from drsft.run.shards import ShardSet, remove_unnamed
from drsft.storage import S3Store, open_store, read_table, table_bytes, upload_folder

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(object_store, monkeypatch: pytest.MonkeyPatch) -> S3Store:  # type: ignore[no-untyped-def]
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"{object_store.url}/{uuid.uuid4().hex}")
    assert isinstance(store, S3Store)
    return store


def test_of_many_creators_exactly_one_wins(store: S3Store) -> None:
    for key in ("a", "deep/b", "c"):
        barrier = threading.Barrier(8)
        won: list[int] = []

        def race(
            number: int, key: str = key, barrier: threading.Barrier = barrier, won: list[int] = won
        ) -> None:
            mine = S3Store(store.url)
            barrier.wait()
            if mine.create(key, f"writer {number}".encode()):
                won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.read(key) == f"writer {won[0]}".encode()


def test_objects_tables_and_listings_survive_a_round_trip(store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f").write_bytes(b"x" * (12 << 20))  # larger than one part of a multipart upload
    upload_folder(store, tmp_path, "kept")
    assert store.read("kept/sub/f") == b"x" * (12 << 20)
    table = pa.table({"a": [1, 2]})
    store.put("t.parquet", table_bytes(table))
    assert read_table(store, "t.parquet") == table
    assert list(store.keys("")) == ["kept/sub/f", "t.parquet"]
    assert list(store.keys("nothing")) == []
    assert store.exists("t.parquet")
    store.delete("t.parquet")
    assert not store.exists("t.parquet")
    assert list(store.within("kept").keys("")) == ["sub/f"]


def test_a_read_during_an_overwrite_gives_the_old_bytes_or_the_new(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pyarrow 26.0.1 and RADOS Gateway, one read in fourteen failed here."""
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    store.put("beat", b"0" * 40)
    failed: list[StorageError] = []

    def write() -> None:
        mine = S3Store(store.url)
        for number in range(600):
            mine.put("beat", str(number % 10).encode() * (40 + number % 3))

    def read() -> None:
        mine = S3Store(store.url)
        while writer.is_alive():
            try:
                assert len(set(mine.read("beat"))) == 1
            except StorageError as error:
                failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(read) for _ in range(3)]:
            done.result()
    assert not failed


def test_the_first_commit_of_a_shard_stands(store: S3Store) -> None:
    shards = ShardSet(store, "stage")
    first = shards.commit("00000", pa.table({"a": [1]}))
    assert shards.commit("00000", pa.table({"a": [2]})) == first
    assert shards.table("00000").to_pylist() == [{"a": 1}]
    assert len(list(store.keys("stage/data"))) == 1


def test_data_that_no_commit_names_goes_when_its_shard_is_done(store: S3Store) -> None:
    left = "round-2-1234abcd/rewrite/data/00000-0123456789abcdef.parquet"
    store.put(left, table_bytes(pa.table({"a": [1]})))
    assert remove_unnamed(store) == 0
    shards = ShardSet(store.within("round-2-1234abcd"), "rewrite")
    shards.commit("00000", pa.table({"a": [2]}))
    assert remove_unnamed(store) == 1
    assert not store.exists(left)
    assert shards.table("00000").to_pylist() == [{"a": 2}]


def test_an_upload_that_was_never_finished_is_ended(store: S3Store) -> None:
    begun = store._client.create_multipart_upload(Bucket=store.bucket, Key=store._key("train/x"))
    elsewhere = store._client.create_multipart_upload(Bucket=store.bucket, Key=f"{store.prefix}-not/x")
    store.put("train/x", b"x")
    assert store.sweep() == 1
    assert store.sweep() == 0
    assert store.read("train/x") == b"x"
    assert begun["UploadId"] != elsewhere["UploadId"]
    store._client.abort_multipart_upload(
        Bucket=store.bucket, Key=elsewhere["Key"], UploadId=elsewhere["UploadId"]
    )


def test_problems_are_read_from_s3(store: S3Store) -> None:
    rows = [{"problem": f"{n}+1?", "solution": f"\\boxed{{{n + 1}}}", "answer": n + 1} for n in range(5)]
    store.put("in/a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    for path in (f"{store.url}/in/a.jsonl", f"{store.url}/in"):
        problems = list(read_problems(Problems(path=path), Intake()))
        assert [problem.reference for problem in problems] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary-wrong"}, "credentials"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "credentials"),
    ],
)
def test_wrong_credentials_are_one_line_without_the_secret(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    wrong = S3Store(store.url)
    for call in (lambda: wrong.create("x", b""), lambda: wrong.put("x", b""), lambda: wrong.read("x")):
        with pytest.raises(StorageError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert words in message
        assert "canary-wrong" not in message


def test_a_missing_bucket_is_named(store: S3Store) -> None:
    with pytest.raises(StorageError, match="no-such-bucket"):
        S3Store("s3://no-such-bucket/x").create("key", b"")


def test_of_drivers_that_see_a_dead_one_one_takes_the_lease(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")  # RADOS Gateway fails a read that meets an overwrite
    pace = LeaseTiming(beat_s=0.2, expires_s=5)  # a busy machine may well pause for two
    dead = replace(Holder.here(), machine="another machine")
    assert store.create("lease/000001.json", json.dumps(asdict(dead)).encode())

    def one() -> Lease | BusyError:
        try:
            return acquire(S3Store(store.url), wait_s=0, pace=pace, say=lambda line: None)
        except BusyError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        found = [each.result() for each in [pool.submit(one) for _ in range(4)]]
    [lease] = [one for one in found if isinstance(one, Lease)]
    lease.release()
    with held(store, pace=pace) as later:
        assert later.term == lease.term + 1


@pytest.mark.ray
@pytest.mark.engine
def test_a_run_lies_in_s3_from_problems_to_report(object_store, store: S3Store) -> None:  # type: ignore[no-untyped-def]
    config = ROOT / "jobs/configs/quickstart.yaml"
    overrides = [
        "problems.limit=24",
        "problems.shard_size=8",
        "resources.rewrite_actors=1",
        "resources.train_workers=1",  # test_checkpoint_parts.py has several on the store
        "train.seeds=[0]",
        "train.num_epochs=1",
        "train.checkpoint_every_steps=2",
        "train.arms=[{name: dr+dft}]",
        "evaluate.num_samples=2",
        "evaluate.benchmarks=[{name: held-out, problems: {path: 'embedded:held_out', limit: 10}}]",
        f"storage={store.url}",
    ]
    command = [sys.executable, "-m", "drsft.cli", "run", str(config), *overrides]
    environment = {**os.environ, **object_store.environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    where = done.stdout.strip().splitlines()[-1]
    assert where.startswith(store.url)
    assert where.endswith("/report/index.html")
    keys = list(store.keys(""))
    assert sum("/rewrite/commits/" in key for key in keys) == 3
    assert any(key.endswith("/export/model.safetensors") for key in keys)
    assert not list(ROOT.glob("s3:*")), "nothing of it lies in the working folder"
