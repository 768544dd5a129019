"""Checks whether a folder or bucket gives all guarantees that runs rely on; each check says what would fail.

Everything happens below a temporary prefix, which is emptied afterwards.
"""

import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from drsft.doctor.checks import Check, State, judged
from drsft.doctor.environment import GIB
from drsft.errors import StorageError
from drsft.storage import LocalStore, S3Store, Store, open_store
from drsft.storage.promises import num_winners, wrong_bytes
from drsft.storage.s3 import LOCK_VARIABLE, SINGLE_DRIVER

__all__ = ["check_storage"]

NUM_RACERS, NUM_LISTED, NUM_TIMED = 8, 20, 10
PART_BYTES = 5 << 20  # the smallest that S3 takes
LARGE_BYTES = 12 << 20  # goes up in parts
MAX_LATENCY_S = 0.5  # a shard's commit is two small objects
MAX_SKEW_S, REFUSED_SKEW_S = 60, 900  # S3 refuses requests that are a quarter of an hour off
MIN_FREE_GIB = 1.0

_TWICE = (
    "two drivers would commit one shard; use another store, or set "
    f"{LOCK_VARIABLE}={SINGLE_DRIVER} (docs/storage.md)"
)
_PAID = "uploads left by killed writers are paid for; set a lifecycle rule (docs/storage.md)"

Probe = Callable[[str, Store], Check]


def check_storage(url: str) -> Iterator[Check]:
    """Checks a store step by step and yields each result; all is removed again.

    If nothing can be written, the other checks are skipped. Raises StorageError if `url` is not the URL of a
    store.
    """
    place = open_store(url)
    is_new = isinstance(place, LocalStore) and not place.root.exists()
    store = place.within(f"drsft-doctor-{uuid.uuid4().hex[:12]}")
    try:
        written = _run(_write_and_read, "write and read", store)
        yield written
        if written.state == "wrong":
            return
        for name, probe in _probes(store):
            yield _run(probe, name, store)
    finally:
        with suppress(StorageError):
            for key in list(store.keys("")):
                store.delete(key)
        if isinstance(place, LocalStore) and isinstance(store, LocalStore):
            shutil.rmtree(place.root if is_new else store.root, ignore_errors=True)
    yield _run(_nothing_left, "nothing left behind", store)


def _probes(store: Store) -> Iterator[tuple[str, Probe]]:
    yield "create only what is not there", _create_once
    yield f"one of {NUM_RACERS} writers wins", _race
    yield "overwritten at once", _overwrite
    yield "listed at once", _list
    yield "read from the middle", _read_range
    yield "large objects", _large
    if isinstance(store, S3Store):
        yield "unfinished uploads end", _end_uploads
        yield "clock", _clock
    else:
        yield "free space", _space
    yield "delete", _delete
    yield "latency", _latency


def _run(probe: Probe, name: str, store: Store) -> Check:
    try:
        return probe(name, store)
    except StorageError as error:
        return judged(name, False, found=str(error), cure="see docs/storage.md")


def _write_and_read(name: str, store: Store) -> Check:
    store.put("a/written", b"1")
    wrong = wrong_bytes(store.read("a/written"), b"1")
    return judged(name, wrong is None, found=store.url, cure=wrong or "")


def _create_once(name: str, store: Store) -> Check:
    first, second = store.create("created", b"1"), store.create("created", b"2")
    stands = store.read("created")
    return judged(
        name,
        first and not second and stands == b"1",
        found=f"the second put of a key was {'accepted' if second else 'rejected'}",
        cure=f"it ignores If-None-Match: {_TWICE}",
    )


def _race(name: str, store: Store) -> Check:
    won = num_winners(store, "race", NUM_RACERS)
    if isinstance(store, S3Store) and store.is_single_driver:
        return Check(name=name, state="warning", found=f"{won} won", cure="start only one driver of a run")
    return judged(name, won == 1, found=f"{won} won", cure=_TWICE)


def _overwrite(name: str, store: Store) -> Check:
    seen = []
    for text in (b"1", b"22", b"333"):
        store.put("overwritten", text)
        seen.append(store.read("overwritten") == text)
    return judged(
        name,
        all(seen),
        found=f"{sum(seen)} of {len(seen)} read as written",
        cure="an old object is read after a new one: a lease would seem expired; use another store",
    )


def _list(name: str, store: Store) -> Check:
    keys = [f"list/{number:02d}" for number in range(NUM_LISTED)]
    found = []
    for key in keys:
        store.put(key, b"")
        found.append(key in set(store.keys("list")))
    return judged(
        name,
        all(found) and list(store.keys("list")) == keys,
        found=f"{sum(found)} of {len(found)} keys were listed right after their put",
        cure="committed shards would be done again; use another store",
    )


def _read_range(name: str, store: Store) -> Check:
    store.put("range", b"0123456789")
    with store.open("range") as file:
        try:
            file.seek(4)
            middle = file.read(3)
        except OSError as error:
            raise StorageError(f"cannot read a range of bytes of {store.url}/range: {error}") from error
    return judged(
        name,
        middle == b"456",
        found=f"bytes 4 to 6 are {middle!r}",
        cure="Parquet files cannot be read piece by piece; use another store",
    )


def _large(name: str, store: Store) -> Check:
    data = bytes(range(256)) * (LARGE_BYTES // 256)
    began_s = time.monotonic()
    store.put("large", data)
    is_same = store.read("large") == data
    rate = 2 * LARGE_BYTES / (time.monotonic() - began_s) / (1 << 20)
    return judged(
        name,
        is_same,
        found=f"{LARGE_BYTES >> 20} MiB there and back, {rate:.0f} MiB/s",
        cure="checkpoints and exports would be damaged; use another store",
    )


def _end_uploads(name: str, store: Store) -> Check:
    """Returns the check that the store can abort an upload whose writer died; until then its storage costs
    money.
    """
    assert isinstance(store, S3Store)
    left = store.begin_upload("unfinished", bytes(PART_BYTES))
    is_visible = store.exists("unfinished")
    try:
        before = left in store.unfinished_uploads()
    except StorageError as error:
        store.end_upload("unfinished", left)
        return Check(name=name, state="warning", found=f"not listed: {error}", cure=_PAID)
    store.end_upload("unfinished", left)
    after = left in store.unfinished_uploads()
    return judged(
        name,
        before and not after and not is_visible,
        found="aborted" if before and not after else f"listed before: {before}, after: {after}",
        cure=_PAID,
        otherwise="wrong" if is_visible else "warning",
    )


def _clock(name: str, store: Store) -> Check:
    assert isinstance(store, S3Store)
    skew_s = store.clock_skew_s()
    found = f"{abs(skew_s):.0f} s {'behind' if skew_s < 0 else 'ahead of'} the store's"
    cure = f"set this machine's clock (NTP): past {REFUSED_SKEW_S} s S3 refuses"
    otherwise: State = "warning" if abs(skew_s) < REFUSED_SKEW_S else "wrong"
    return judged(name, abs(skew_s) <= MAX_SKEW_S, found=found, cure=cure, otherwise=otherwise)


def _space(name: str, store: Store) -> Check:
    free_gib = shutil.disk_usage(Path(store.url)).free / GIB
    cure = "free space: even a small run needs more"
    return judged(name, free_gib >= MIN_FREE_GIB, found=f"{free_gib:.1f} GiB", cure=cure, otherwise="warning")


def _delete(name: str, store: Store) -> Check:
    store.put("deleted", b"")
    store.delete("deleted")
    return judged(
        name,
        not store.exists("deleted") and "deleted" not in set(store.keys("")),
        found="gone at once",
        cure="old checkpoints would stay, and be paid for",
    )


def _latency(name: str, store: Store) -> Check:
    taken_s = []
    for number in range(NUM_TIMED):
        began_s = time.monotonic()
        store.create(f"timed/{number}", b"x" * 200)
        store.read(f"timed/{number}")
        taken_s.append(time.monotonic() - began_s)
    median_s = statistics.median(taken_s)
    found = (
        f"{median_s * 1000:.0f} ms for a small put and get; the longest of {NUM_TIMED} took "
        f"{max(taken_s) * 1000:.0f} ms"
    )
    cure = "the store answers slowly: use larger shards (problems.shard_size)"
    return judged(name, median_s <= MAX_LATENCY_S, found=found, cure=cure, otherwise="warning")


def _nothing_left(name: str, store: Store) -> Check:
    left = [*store.keys("")]
    if isinstance(store, S3Store):
        with suppress(StorageError):  # reported by the check of unfinished uploads
            left += store.unfinished_uploads()
    return judged(
        name,
        not left,
        found=f"{len(left)} objects" if left else "the prefix is empty again",
        cure=f"remove {store.url}: these credentials may not delete",
    )
