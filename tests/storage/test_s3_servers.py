"""The S3 store, the doctor and a run against servers that lack something, over real connections."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drsft.cli import app
from drsft.doctor.storage import check_storage
from drsft.errors import StorageError
from drsft.storage import open_store
from drsft.storage.promises import check_promises
from tests.support.s3_server import S3Server, running_s3

URL = "s3://bucket/runs"
NAMES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_REQUEST_CHECKSUM_CALCULATION", "DRSFT_STORE_LOCK")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with ExitStack() as stack:

        def start(server: S3Server, **environment: str) -> S3Server:
            stack.enter_context(running_s3(server))
            for name, value in {**server.environment, **environment}.items():
                monkeypatch.setenv(name, value)
            return server

        yield start


def _use_both_clients() -> None:
    store = open_store(URL)
    assert store.create("created", b"1")
    assert not store.create("created", b"2")
    store.put("put", b"3")
    assert [store.read(key) for key in store.keys("")] == [b"1", b"3"]
    store.delete("put")
    assert not store.exists("put")


def test_a_busy_server_is_asked_again_for_an_object_shorter_than_its_error(start) -> None:  # type: ignore[no-untyped-def]
    server = start(S3Server())
    store = open_store(URL)
    store.put("beat", b"7")
    server.num_busy_reads = 1
    assert store.read("beat") == b"7"
    assert server.num_busy_reads == 0
    server.num_busy_reads = 2  # as often as it is asked
    with pytest.raises(StorageError, match="SlowDown"):
        store.read("beat")


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_REGION": "eu-central-1"},
        {"AWS_DEFAULT_REGION": "eu-central-1"},
        {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-west-2"},
    ],
)
def test_commits_and_data_are_signed_for_one_region(start, environment: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    start(S3Server(region="eu-central-1"), **environment)
    _use_both_clients()


def test_the_region_of_a_profile_is_taken_where_no_variable_names_one(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "config").write_text("[default]\nregion = eu-central-1\n")
    start(S3Server(region="eu-central-1"))
    _use_both_clients()


def test_a_wrong_region_is_told_by_both_clients(start) -> None:  # type: ignore[no-untyped-def]
    start(S3Server(region="eu-central-1"), AWS_REGION="us-west-2", AWS_MAX_ATTEMPTS="1")
    store = open_store(URL)
    for call in (lambda: store.create("x", b""), lambda: store.put("x", b""), lambda: list(store.keys(""))):
        with pytest.raises(StorageError, match="set AWS_REGION to the bucket's region"):
            call()


def test_a_server_that_refuses_bodies_in_pieces_gets_the_two_variables_and_they_help(  # type: ignore[no-untyped-def]
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(S3Server(chunks="refuse"))
    with pytest.raises(
        StorageError, match=r"411.*AWS_REQUEST_CHECKSUM_CALCULATION=when_required and"
    ) as told:
        open_store(URL).put("x", b"1")
    assert "credentials" not in str(told.value)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    open_store(URL).put("x", b"1")
    assert open_store(URL).read("x") == b"1"


def test_a_checksum_that_lands_inside_objects_is_named_by_the_doctor_and_refused_by_a_run(start) -> None:  # type: ignore[no-untyped-def]
    start(S3Server(chunks="store"))
    [written, *_] = check_storage(URL)
    assert written.state == "wrong"
    assert "checksum inside objects; set AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in written.cure
    with pytest.raises(StorageError, match="checksum inside objects; set AWS_REQUEST_CHECKSUM_CALCULATION"):
        check_promises(open_store(URL))


def test_a_store_that_cannot_list_unfinished_uploads_is_warned_of_and_used(start) -> None:  # type: ignore[no-untyped-def]
    start(S3Server(uploads="unlisted"))
    checks = {check.name: check for check in check_storage(URL)}
    assert [name for name, check in checks.items() if check.state == "wrong"] == []
    assert checks["unfinished uploads end"].state == "warning"
    check_promises(open_store(URL))


def test_a_store_that_ignores_the_exclusive_put_is_refused_in_one_line(start) -> None:  # type: ignore[no-untyped-def]
    server = start(S3Server(keeps_conditions=False))
    command = ["run", "jobs/configs/quickstart.yaml", f"storage={URL}"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, StorageError)
    told = str(done.exception)
    assert "told 5 of 5 writers that they created the same new key" in told
    assert "DRSFT_STORE_LOCK=single-driver" in told
    assert "\n" not in told
    assert server.objects == {}, "nothing was written but the probe, which is gone"


def test_a_single_driver_may_use_it_and_creates_nothing_twice(start) -> None:  # type: ignore[no-untyped-def]
    start(S3Server(keeps_conditions=False), DRSFT_STORE_LOCK="single-driver")
    check_promises(open_store(URL))
    _use_both_clients()
    race = next(check for check in check_storage(URL) if check.name == "one of 8 writers wins")
    assert race.state == "warning"


def test_another_lock_is_no_lock(start) -> None:  # type: ignore[no-untyped-def]
    start(S3Server(), DRSFT_STORE_LOCK="yes")
    with pytest.raises(StorageError, match="DRSFT_STORE_LOCK 'yes': the only value is single-driver"):
        open_store(URL).create("x", b"")
