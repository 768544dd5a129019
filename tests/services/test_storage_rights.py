"""The least that credentials need (cluster/s3_policy.json), and what is said of less, on a real S3 server."""

import json
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest

from drsft.doctor.storage import check_storage
from drsft.errors import StorageError
from drsft.storage import S3Store

pytestmark = pytest.mark.services

POLICY = Path(__file__).parents[2] / "cluster/s3_policy.json"
OTHER = {"AWS_ACCESS_KEY_ID": "otherkey", "AWS_SECRET_ACCESS_KEY": "othersecret"}


def _policy(bucket: str, prefix: str) -> dict[str, Any]:
    """Ours, as a policy of the bucket that names the other user."""
    policy = json.loads(POLICY.read_text().replace("BUCKET", bucket).replace("PREFIX", prefix))
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": "arn:aws:iam:::user/other"}
    return policy  # type: ignore[no-any-return]


@pytest.fixture
def place(object_store, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:  # type: ignore[no-untyped-def]
    """A bucket of its own that the process may use with the other user's keys; and its owner's client."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    owner = boto3.client("s3", endpoint_url=object_store.environment["AWS_ENDPOINT_URL"])
    bucket = f"rights-{uuid.uuid4().hex[:8]}"
    owner.create_bucket(Bucket=bucket)
    for name, value in OTHER.items():
        monkeypatch.setenv(name, value)
    return bucket, owner


def test_the_policy_is_enough_for_all_that_runs_rely_on_and_for_nothing_else(place: tuple[str, Any]) -> None:
    bucket, owner = place
    owner.put_object(Bucket=bucket, Key="secret", Body=b"x")
    owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps(_policy(bucket, "runs")))
    checks = list(check_storage(f"s3://{bucket}/runs"))
    assert [f"{check.name}: {check.found}" for check in checks if check.state == "wrong"] == []
    assert len(checks) == 12
    assert not S3Store(f"s3://{bucket}/runs").exists("not-there"), "which a right to list makes 404, not 403"
    outside = S3Store(f"s3://{bucket}/other")
    for call in (
        lambda: outside.put("x", b""),
        lambda: outside.create("x", b""),
        lambda: S3Store(f"s3://{bucket}").read("secret"),
    ):
        with pytest.raises(StorageError, match="check the credentials and what they may do"):
            call()
    # The default session remembers the owner's keys.
    mine = boto3.session.Session().client("s3", endpoint_url=owner.meta.endpoint_url)
    for change in (
        lambda: mine.put_bucket_policy(Bucket=bucket, Policy='{"Version": "2012-10-17", "Statement": []}'),
        lambda: mine.delete_object(Bucket=bucket, Key="secret"),
        lambda: mine.put_object_acl(Bucket=bucket, Key="secret", ACL="public-read"),
    ):
        with pytest.raises(mine.exceptions.ClientError, match=r"AccessDenied|MethodNotAllowed"):
            change()
    assert owner.get_object(Bucket=bucket, Key="secret")["Body"].read() == b"x"
    assert len(json.loads(owner.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]) == 2
    assert len(owner.get_object_acl(Bucket=bucket, Key="secret")["Grants"]) == 1


def test_keys_that_may_only_read_are_told_so(place: tuple[str, Any]) -> None:
    bucket, owner = place
    policy = _policy(bucket, "runs")
    policy["Statement"][0]["Action"] = ["s3:GetObject"]
    owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    [check] = [one for one in check_storage(f"s3://{bucket}/runs") if one.state == "wrong"]
    assert check.name == "write and read"
    assert "check the credentials and what they may do" in check.found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary-wrong"}, "check the credentials"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "check the credentials"),
        ({}, "no such bucket"),
    ],
)
def test_the_doctor_names_wrong_keys_and_a_missing_bucket(
    place: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    bucket = place[0] if change else "nowhere-at-all"
    checks = list(check_storage(f"s3://{bucket}/runs"))
    assert checks[0].state == "wrong"
    assert words in checks[0].found
    assert "canary-wrong" not in str(checks)


def test_a_clock_that_is_off_is_named(object_store, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The server checks the time in boto3's signature, so its clock is moved rather than the machine's."""
    from datetime import timedelta

    from botocore import auth

    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    true_time = auth.get_current_datetime
    monkeypatch.setattr(
        auth, "get_current_datetime", lambda **options: true_time(**options) + timedelta(hours=2)
    )
    with pytest.raises(StorageError, match="clock is off"):
        S3Store(f"{object_store.url}/{uuid.uuid4().hex}").create("x", b"")
