"""Where a run lives: a local folder or an S3 prefix, with the same few guarantees.

A reader never sees half an object, and of several writers of one new key exactly one wins. Data moves through
pyarrow; boto3 does the one thing pyarrow lacks, a put that fails when the key exists (If-None-Match).
"""

import fcntl
import io
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from drsft.errors import StorageError
from drsft.storage_errors import (
    check_bucket,
    checked_key,
    is_nameable,
    local_failure,
    s3_endpoint,
    s3_failure,
    without_login,
)

__all__ = [
    "LocalStore",
    "S3Store",
    "Store",
    "download_folder",
    "open_store",
    "read_table",
    "table_bytes",
    "upload_folder",
]


_READ_AHEAD_BYTES = 4 << 20  # of one request to S3, where a file is read from its start to its end
_S3_ATTEMPTS = "7"  # of one request, with growing random pauses: a store that restarts is waited for


class Store(Protocol):
    """Keys are relative, with forward slashes. Errors that the user can mend are StorageErrors."""

    @property
    def url(self) -> str: ...

    def create(self, key: str, data: bytes) -> bool:
        """Write a key that must not exist; False, and nothing changed, when it does."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def read(self, key: str) -> bytes: ...

    def open(self, key: str) -> BinaryIO:
        """The object as a file that can be sought in, read piece by piece; reading it may raise OSError."""
        ...

    def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under the folder `prefix`, sorted."""
        ...

    def delete(self, key: str) -> None: ...

    def sweep(self) -> int:
        """Removes what writers that were killed left half-written; how much it was. No reader ever sees it.

        In S3 a writer that still lives may lose its upload too, and gets a StorageError.
        """
        ...

    def within(self, prefix: str) -> "Store": ...


def open_store(url: str) -> Store:
    """A store at a local folder or at s3://bucket/prefix."""
    if url.startswith("s3://"):
        return S3Store(url)
    if "://" in url:
        raise StorageError(f"storage {without_login(url)!r}: give a folder or s3://bucket/prefix")
    if not url.strip() or not is_nameable(url):
        raise StorageError(f"storage {url!r} is no folder's name; give a folder or s3://bucket/prefix")
    try:
        return LocalStore(Path(url).expanduser().absolute())
    except RuntimeError as error:
        raise StorageError(f"storage {url!r}: no such user; write the home folder out") from error


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def within(self, prefix: str) -> "LocalStore":
        return LocalStore(self._path(prefix))

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    @contextmanager
    def _staged(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """The data in a file beside its place, for as long as the block takes to put it there."""
        target = self._path(key)
        staging = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(staging, "wb") as file:
                with suppress(OSError):  # a file system without locks: sweep leaves its files alone
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                yield staging, target
        except OSError as error:
            raise local_failure("write", target, error) from error
        finally:
            with suppress(OSError):
                staging.unlink()

    def create(self, key: str, data: bytes) -> bool:
        with self._staged(key, data) as (staging, target):
            try:
                os.link(staging, target)  # fails when the name exists, and the content is there at once
            except FileExistsError:
                return False
        return True

    def put(self, key: str, data: bytes) -> None:
        with self._staged(key, data) as (staging, target):
            os.replace(staging, target)

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except OSError as error:
            raise local_failure("read", self._path(key), error) from error

    def open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except OSError as error:
            raise local_failure("read", self._path(key), error) from error

    def exists(self, key: str) -> bool:
        try:
            return self._path(key).is_file()
        except OSError as error:
            raise local_failure("look up", self._path(key), error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._path(prefix)
        paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
        try:
            yield from sorted(path.relative_to(self.root).as_posix() for path in paths)
        except OSError as error:
            raise local_failure("list", folder, error) from error

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise local_failure("delete", self._path(key), error) from error

    def sweep(self) -> int:
        """A writer holds a lock on its file as long as it lives, so only dead ones' are removed."""
        return sum(_remove_if_abandoned(path) for path in self.root.rglob(".*.tmp"))


def _remove_if_abandoned(staging: Path) -> bool:
    with suppress(OSError), staging.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        staging.unlink()
        return True
    return False


class S3Store:
    """Credentials and endpoint come from the standard AWS environment (AWS_ENDPOINT_URL)."""

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
            connect_timeout=5,
            request_timeout=60,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_s3_attempts()),
            allow_delayed_open=True,  # small objects are one put: no upload in parts that a kill would leave
            **options,
        )

    def _failed(self, verb: str, key: str, error: Exception) -> StorageError:
        return s3_failure(f"{verb} s3://{self._path(key)} at {s3_endpoint() or 'AWS'}", error)

    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412):
                # A retried put whose first answer was lost meets its own object: that is a success.
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

    def read(self, key: str) -> bytes:
        try:
            with self._files.open_input_stream(self._path(key)) as stream:
                return bytes(stream.read())
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
        """Ends the uploads in parts that were never finished: nobody lists them, but they are paid for."""
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
        """An upload in parts that has its first one; nobody sees the object until its end. Gives its id."""
        with self._asked("upload", key) as client:
            place = {"Bucket": self.bucket, "Key": self._key(key)}
            upload = str(client.create_multipart_upload(**place)["UploadId"])
            client.upload_part(**place, UploadId=upload, PartNumber=1, Body=part)
        return upload

    def unfinished_uploads(self) -> list[str]:
        """The ids of those below this store's prefix."""
        with self._asked("list unfinished uploads below", "") as client:
            pages = client.get_paginator("list_multipart_uploads")
            listed = pages.paginate(Bucket=self.bucket, Prefix=self._key(""))
            return [one["UploadId"] for page in listed for one in page.get("Uploads", ())]

    def end_upload(self, key: str, upload: str) -> None:
        with self._asked("end the upload of", key) as client:
            client.abort_multipart_upload(Bucket=self.bucket, Key=self._key(key), UploadId=upload)

    def clock_skew_s(self) -> float:
        """By how much this machine's clock is ahead of the server's, within a second or two."""
        with self._asked("look at", "") as client:
            answer = client.list_objects_v2(Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return time.time() - parsedate_to_datetime(told).timestamp() if told else 0.0

    @contextmanager
    def _asked(self, verb: str, key: str) -> Iterator[Any]:
        """boto3's client; its errors within the block are StorageErrors."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield self._client
        except (BotoCoreError, ClientError) as error:
            raise self._failed(verb, key, error) from error


def _s3_attempts() -> int:
    return int(os.environ.get("AWS_MAX_ATTEMPTS", _S3_ATTEMPTS))


def table_bytes(table: pa.Table) -> bytes:
    """The table as one Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def read_table(store: Store, key: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(store.read(key)))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise StorageError(f"{store.url}/{key} is damaged: no Parquet file: {reason}") from error


def upload_folder(store: Store, folder: Path, key: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def download_folder(store: Store, key: str, folder: Path) -> None:
    """Everything below `key`. A name that would lead out of `folder` is a StorageError."""
    for name in store.keys(key):
        path = folder / checked_key(name).removeprefix(key).lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.read(name))
        except OSError as error:
            raise local_failure("write", path, error) from error
