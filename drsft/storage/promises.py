"""Tests the store's guarantees that a run relies on: some real servers accept a condition and ignore it."""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from drsft.errors import StorageError
from drsft.storage.failures import UNCHUNKED
from drsft.storage.s3 import LOCK_VARIABLE, SINGLE_DRIVER, S3Store
from drsft.storage.store import Store

__all__ = ["check_promises", "num_winners", "wrong_bytes"]

_FRAME = re.compile(rb"[0-9a-f]+(;[^\r\n]*)?\r\n.*x-amz-checksum-", re.DOTALL)
_WRITTEN = b"written"
_NUM_RACERS = 4


def check_promises(store: Store) -> None:
    """Raises StorageError if S3 does not return what was put, or lets several writers create the same key.

    It makes about ten small requests below a key of its own. A local folder gives both guarantees.
    """
    if not isinstance(store, S3Store):
        return
    key = f".probe-{uuid.uuid4().hex[:12]}"
    try:
        store.put(f"{key}/read", _WRITTEN)
        if reason := wrong_bytes(store.read(f"{key}/read"), _WRITTEN):
            raise StorageError(f"{store.url}: {reason}")
        if not store.is_single_driver and (won := num_winners(store, f"{key}/race", _NUM_RACERS)) != 1:
            raise StorageError(
                f"{store.url} told {won} of {_NUM_RACERS + 1} writers that they created the same new key, "
                "where exactly one must succeed; two drivers could then commit the same shard. Use another "
                f"store, or set {LOCK_VARIABLE}={SINGLE_DRIVER} where no "
                "second driver can start (docs/storage.md)"
            )
    finally:
        for name in ("read", "race"):
            with suppress(StorageError):
                store.delete(f"{key}/{name}")


def num_winners(store: Store, key: str, num_racers: int) -> int:
    """Lets `num_racers` writers create the same key at once, and one more after them.

    Returns how many were told that they created it: 1 in a correct store. Returns 2 also if the stored value
    is not that of the one writer that was told so.
    """
    barrier = threading.Barrier(num_racers)

    def write(number: int) -> bool:
        barrier.wait()
        return store.create(key, b"%d" % number)

    with ThreadPoolExecutor(num_racers) as racers:
        won = [number for number, has_won in enumerate(racers.map(write, range(num_racers))) if has_won]
    if store.create(key, b"late"):
        won.append(num_racers)
    is_kept = len(won) != 1 or store.read(key) == b"%d" % won[0]
    return len(won) if is_kept else 2  # another writer overwrote it although its put was reported as failed


def wrong_bytes(found: bytes, written: bytes) -> str | None:
    """Returns how an object differs from what was written, or None if it does not."""
    if found == written:
        return None
    if _FRAME.match(found):
        return f"it stores the client's checksum inside objects; set {UNCHUNKED}"
    return "it does not return what was written, so records would be lost; use another store"
