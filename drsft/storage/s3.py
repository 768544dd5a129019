"""Implements a store below an S3 prefix.

Data moves through pyarrow; boto3 does what pyarrow lacks: a put that fails when the key exists
(If-None-Match), an upload of a file with a bound on the pieces in memory, and a read while others write.
"""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow.fs as pafs

from drsft.errors import StorageError
from drsft.storage.failures import (
    check_bucket,
    checked_key,
    s3_endpoint,
    s3_failure,
)
from drsft.storage.local import open_local

__all__ = ["LOCK_VARIABLE", "SINGLE_DRIVER", "S3Store"]

LOCK_VARIABLE, SINGLE_DRIVER = "DRSFT_STORE_LOCK", "single-driver"

_READ_AHEAD_BYTES = 4 << 20  # of one request to S3, where a file is read from its start to its end
_PARTS_AT_ONCE = 4  # of 8 MiB, of one upload
_WHOLE_BYTES = 5 << 40  # no object is larger: each is read by one request
_S3_ATTEMPTS = "7"  # of one request, with growing random pauses: a store that restarts is waited for


class S3Store:
    """A store below an S3 prefix.

    Credentials and endpoint come from the standard AWS environment (AWS_ENDPOINT_URL).
    """

    def __init__(self, url: str) -> None:
        bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
        check_bucket(bucket)
        self.bucket, self.prefix = bucket, checked_key(prefix)

    @property
    def url(self) -> str:
        return f"s3://{self._path('')}".rstrip("/")

    def within(self, prefix: str) -> "S3Store":
        return S3Store(f"{self.url}/{prefix}")

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{checked_key(key)}" if self.prefix else checked_key(key)

    def _path(self, key: str) -> str:
        return f"{self.bucket}/{self._key(key)}"

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=s3_endpoint(),
            region_name=_s3_region(),
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": _s3_attempts(), "mode": "standard"},
            ),
        )

    @cached_property
    def _files(self) -> pafs.FileSystem:
        endpoint = s3_endpoint()
        scheme, _, host = (endpoint or "").rpartition("://")
        options = {"endpoint_override": host, "scheme": scheme} if endpoint else {}
        return pafs.S3FileSystem(
            region=_s3_region(),
            connect_timeout=5,
            request_timeout=60,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_s3_attempts()),
            allow_delayed_open=True,  # small objects are one put, which a kill cannot leave unfinished
            **options,
        )

    def _failed(self, verb: str, key: str, error: BaseException) -> StorageError:
        return s3_failure(f"{verb} s3://{self._path(key)} at {s3_endpoint() or 'AWS'}", error)

    @property
    def is_single_driver(self) -> bool:
        """Whether the user guarantees that no second driver starts, since the server has no exclusive put.

        Raises StorageError if DRSFT_STORE_LOCK has an unknown value.
        """
        lock = os.environ.get(LOCK_VARIABLE)
        if lock not in (None, "", SINGLE_DRIVER):
            raise StorageError(f"{LOCK_VARIABLE} {lock!r}: the only value is {SINGLE_DRIVER}")
        return lock == SINGLE_DRIVER

    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        if self.is_single_driver:
            if self.exists(key):
                return self.read(key) == data
            self.put(key, data)
            return True
        try:
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412):
                # A retried put whose first response was lost finds its own object: that is a success.
                return self.exists(key) and self.read(key) == data
            raise self._failed("write", key, error) from error
        except BotoCoreError as error:
            raise self._failed("write", key, error) from error
        return True

    def put(self, key: str, data: bytes) -> None:
        try:
            with self._files.open_output_stream(self._path(key)) as stream:
                stream.write(data)
        except OSError as error:
            raise self._failed("write", key, error) from error

    def put_file(self, key: str, path: Path) -> None:
        from boto3.exceptions import Boto3Error
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(max_concurrency=_PARTS_AT_ONCE)
        try:
            with self._asked("write", key) as client, open_local(path) as file:
                client.upload_fileobj(file, self.bucket, self._key(key), Config=parts)
        except Boto3Error as error:
            raise self._failed("write", key, error) from error

    def read(self, key: str) -> bytes:
        """Returns the whole object from one response.

        A busy server answers 503, and RADOS Gateway answers 500 to a read during an overwrite, such as a
        lease's heartbeat. boto3 retries both. pyarrow 26.0.1 does not retry if the object is shorter than the
        error's text (findings/pyarrow_s3_short_objects_are_not_retried.sh).
        """
        from boto3.s3.transfer import TransferConfig
        from s3transfer.exceptions import RetriesExceededError

        data, whole = io.BytesIO(), TransferConfig(use_threads=False, multipart_threshold=_WHOLE_BYTES)
        try:
            with self._asked("read", key) as client:
                client.download_fileobj(self.bucket, self._key(key), data, Config=whole)
        except RetriesExceededError as error:  # the connection broke within the body, each time
            raise self._failed("read", key, error.last_exception) from error
        return data.getvalue()

    def read_range(self, key: str, *, start: int, length: int) -> bytes:
        try:
            with self._files.open_input_file(self._path(key)) as file:
                return bytes(file.read_at(length, start))
        except OSError as error:
            raise self._failed("read", key, error) from error

    def open(self, key: str) -> BinaryIO:
        try:
            file = self._files.open_input_file(self._path(key))
        except OSError as error:
            raise self._failed("read", key, error) from error
        return cast(BinaryIO, io.BufferedReader(file, _READ_AHEAD_BYTES))

    def exists(self, key: str) -> bool:
        try:
            return bool(self._files.get_file_info(self._path(key)).type == pafs.FileType.File)
        except OSError as error:
            raise self._failed("look up", key, error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        selector = pafs.FileSelector(self._path(prefix).rstrip("/"), recursive=True, allow_not_found=True)
        try:
            infos = self._files.get_file_info(selector)
        except OSError as error:
            raise self._failed("list", prefix, error) from error
        start = len(self._path(""))
        yield from sorted(info.path[start:] for info in infos if info.type == pafs.FileType.File)

    def delete(self, key: str) -> None:
        with self._asked("delete", key) as client:
            client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def sweep(self) -> int:
        """Aborts unfinished multipart uploads, which no listing shows but which cost storage; returns how
        many.
        """
        count = 0
        with self._asked("end unfinished uploads below", "") as client:
            pages = client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._key("")):
                for one in page.get("Uploads", ()):
                    client.abort_multipart_upload(
                        Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"]
                    )
                    count += 1
        return count

    def begin_upload(self, key: str, part: bytes) -> str:
        """Starts a multipart upload with its first part and returns its id.

        The object becomes visible only when the upload is completed.
        """
        with self._asked("upload", key) as client:
            place = {"Bucket": self.bucket, "Key": self._key(key)}
            upload = str(client.create_multipart_upload(**place)["UploadId"])
            client.upload_part(**place, UploadId=upload, PartNumber=1, Body=part)
        return upload

    def unfinished_uploads(self) -> list[str]:
        """Returns the ids of the unfinished uploads below this store's prefix."""
        with self._asked("list unfinished uploads below", "") as client:
            pages = client.get_paginator("list_multipart_uploads")
            listed = pages.paginate(Bucket=self.bucket, Prefix=self._key(""))
            return [one["UploadId"] for page in listed for one in page.get("Uploads", ())]

    def end_upload(self, key: str, upload: str) -> None:
        with self._asked("end the upload of", key) as client:
            client.abort_multipart_upload(Bucket=self.bucket, Key=self._key(key), UploadId=upload)

    def clock_skew_s(self) -> float:
        """Returns by how many seconds this machine's clock is ahead of the server's, within a second or two.

        Returns 0.0 if the server's response has no date.
        """
        with self._asked("look at", "") as client:
            answer = client.list_objects_v2(Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return time.time() - parsedate_to_datetime(told).timestamp() if told else 0.0

    @contextmanager
    def _asked(self, verb: str, key: str) -> Iterator[Any]:
        """Yields boto3's client; its errors within the block are raised as StorageError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield self._client
        except (BotoCoreError, ClientError) as error:
            raise self._failed(verb, key, error) from error


def _s3_region() -> str:
    """Returns the region that both clients use: boto3 reads AWS_DEFAULT_REGION only, and pyarrow
    prefers it.
    """
    import boto3

    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or boto3.session.Session().region_name or "us-east-1"


def _s3_attempts() -> int:
    return int(os.environ.get("AWS_MAX_ATTEMPTS", _S3_ATTEMPTS))
