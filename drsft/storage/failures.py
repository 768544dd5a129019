"""Checks locations in a store, and turns a store's failures into messages: what failed, where, and
the fix.
"""

import errno
import os
import re
from pathlib import Path

from drsft.errors import StorageError

__all__ = [
    "UNCHUNKED",
    "check_bucket",
    "checked_key",
    "is_nameable",
    "local_failure",
    "s3_endpoint",
    "s3_failure",
    "without_login",
]

_UNNAMEABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LOGIN = re.compile(r"(?<=//)[^/\s]*@")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ENDPOINT = re.compile(r"https?://[^/@\s]+/?")
_FULL = (errno.ENOSPC, errno.EDQUOT)
UNCHUNKED = (  # clients then send a body as one piece, without a checksum behind it
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required and AWS_RESPONSE_CHECKSUM_VALIDATION=when_required: "
    "this server does not read uploads in pieces (docs/storage.md)"
)
_CURES = (  # patterns of S3 errors, as boto3 or pyarrow words them, and the fix
    (r"Request_?Time_?Too_?Skewed", "this machine's clock is off; set it, or let NTP do it"),
    (r"No_?Such_?Bucket|bucket does not exist", "there is no such bucket; create it, or fix its name"),
    (r"Header_?Malformed|Permanent_?Redirect|status 301", "set AWS_REGION to the bucket's region"),
    (
        r"IfNoneMatch|If-None-Match|PutObject operation: (A header you provided|Not_?Implemented)",
        "this server has no exclusive put; use another, or see DRSFT_STORE_LOCK in docs/storage.md",
    ),
    (r"Length_?Required|Missing_?Content_?Length|\b411\b", f"set {UNCHUNKED}"),
    (
        r"Quota_?Exceeded|Insufficient_?Storage|status 507",
        "the store is full; free space, or raise its quota",
    ),
    (
        r"Access_?Denied|Invalid_?Access_?Key|Signature_?Does_?Not|Forbidden|status 403|credentials",
        "check the credentials and what they may do in this bucket (docs/storage.md)",
    ),
)
_OTHERWISE = "check AWS_ENDPOINT_URL, the credentials and the bucket's name"


def is_nameable(text: str) -> bool:
    """Returns whether a text can name a file or an object: it has no control characters and no lone
    surrogates.
    """
    return _UNNAMEABLE.search(text) is None


def without_login(text: str) -> str:
    """Returns the text without the user and password of any URL in it."""
    return _LOGIN.sub("", text)


def checked_key(key: str) -> str:
    """Returns the key. Raises StorageError if it would lead out of its store.

    Keys also come from files, so they are not trusted. The empty key is the store itself.
    """
    parts = key.removesuffix("/").split("/")
    if not is_nameable(key) or (key and any(part in ("", ".", "..") for part in parts)):
        raise StorageError(f"key {key!r:.200} is not a relative path without empty parts, '.' and '..'")
    return key


def check_bucket(bucket: str) -> None:
    if "@" in bucket:  # not repeated: it may be a secret
        raise StorageError("storage s3://…@…: credentials go into the environment; give s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"storage 's3://{bucket}' has no valid bucket name; give s3://bucket/prefix")


def s3_endpoint() -> str | None:
    """Returns the S3 server's URL from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; None stands for AWS itself.

    Raises StorageError if it is not a URL.
    """
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(variable):
            if not _ENDPOINT.fullmatch(url):
                raise StorageError(
                    f"{variable} {without_login(url)!r} is not the URL of a server; give http(s)://host[:port]"
                )
            return url
    return None


def local_failure(verb: str, path: Path, error: OSError) -> StorageError:
    cure = "free space on this disk" if error.errno in _FULL else "check the folder and disk"
    return StorageError(f"cannot {verb} {path}: {error.strerror or error}; {cure}")


def s3_failure(doing: str, error: BaseException) -> StorageError:
    """Returns a StorageError that says what failed and how to fix it.

    `doing` names the operation and the place, as in "write s3://bucket/key"; `error` is the client library's.
    """
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    cure = next((cure for said, cure in _CURES if re.search(said, reason, re.IGNORECASE)), _OTHERWISE)
    return StorageError(without_login(f"cannot {doing}: {reason}; {cure}"))
