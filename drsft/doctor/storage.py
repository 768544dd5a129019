"""Whether a folder or a bucket gives all that runs rely on; each check says what would go wrong without.

All of it happens below a prefix of its own, which is empty again afterwards.
"""

import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from drsft.doctor.environment import GIB, EnvironmentCheck
from drsft.errors import StorageError
from drsft.storage import LocalStore, S3Store, Store, open_store

__all__ = ["check_storage"]

NUM_RACERS, NUM_LISTED, NUM_TIMED = 8, 20, 10
PART_BYTES = 5 << 20  # the smallest that S3 takes
LARGE_BYTES = 12 << 20  # goes up in parts
MAX_LATENCY_S = 0.5  # a shard's commit is two small objects
MAX_SKEW_S, REFUSED_SKEW_S = 60, 900  # S3 refuses requests that are a quarter of an hour off
MIN_FREE_GIB = 1.0

Check = Callable[[Store], EnvironmentCheck]


def check_storage(url: str) -> Iterator[EnvironmentCheck]:
    """One check after the other; the rest is left out where nothing can be written. Raises StorageError for
    what is no URL of a store."""
    place = open_store(url)
    is_new = isinstance(place, LocalStore) and not place.root.exists()
    store = place.within(f"drsft-doctor-{uuid.uuid4().hex[:12]}")
    try:
        written = _run(_write_and_read, "write and read", store)
        yield written
        if written.state == "wrong":
            return
        for name, check in _checks(store):
            yield _run(check, name, store)
    finally:
        with suppress(StorageError):
            for key in list(store.keys("")):
                store.delete(key)
        if isinstance(place, LocalStore) and isinstance(store, LocalStore):
            shutil.rmtree(place.root if is_new else store.root, ignore_errors=True)
    yield _run(_nothing_left, "nothing left behind", store)


def _checks(store: Store) -> Iterator[tuple[str, Check]]:
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


def _run(check: Check, name: str, store: Store) -> EnvironmentCheck:
    try:
        found = check(store)
    except StorageError as error:
        return EnvironmentCheck(name=name, state="wrong", found=str(error), cure="see docs/storage.md")
    return found


def _judged(name: str, is_right: bool, *, found: str, otherwise: str) -> EnvironmentCheck:
    """`otherwise` is what would go wrong in a run."""
    return EnvironmentCheck(
        name=name, state="ok" if is_right else "wrong", found=found, cure="" if is_right else otherwise
    )


def _write_and_read(store: Store) -> EnvironmentCheck:
    store.put("a/written", b"1")
    return _judged(
        "write and read",
        store.read("a/written") == b"1",
        found=store.url,
        otherwise="what was written is not read back: records would be lost",
    )


def _create_once(store: Store) -> EnvironmentCheck:
    first, second = store.create("created", b"1"), store.create("created", b"2")
    stands = store.read("created")
    return _judged(
        "create only what is not there",
        first and not second and stands == b"1",
        found=f"the second put of a key was {'taken' if second else 'refused'}",
        otherwise="it ignores If-None-Match: two drivers would commit one shard; use another store",
    )


def _race(store: Store) -> EnvironmentCheck:
    barrier, won, failed = threading.Barrier(NUM_RACERS), list[int](), list[StorageError]()

    def write(number: int) -> None:
        barrier.wait()
        try:
            if store.create("race", str(number).encode()):
                won.append(number)
        except StorageError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(NUM_RACERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if failed:
        raise failed[0]
    return _judged(
        f"one of {NUM_RACERS} writers wins",
        len(won) == 1 and store.read("race") == str(won[0]).encode(),
        found=f"{len(won)} won",
        otherwise="two drivers would commit one shard; use another store",
    )


def _overwrite(store: Store) -> EnvironmentCheck:
    seen = []
    for text in (b"1", b"22", b"333"):
        store.put("overwritten", text)
        seen.append(store.read("overwritten") == text)
    return _judged(
        "overwritten at once",
        all(seen),
        found=f"{sum(seen)} of {len(seen)} read as written",
        otherwise="an old object is read after a new one: a lease would seem dead; use another store",
    )


def _list(store: Store) -> EnvironmentCheck:
    keys = [f"list/{number:02d}" for number in range(NUM_LISTED)]
    found = []
    for key in keys:
        store.put(key, b"")
        found.append(key in set(store.keys("list")))
    return _judged(
        "listed at once",
        all(found) and list(store.keys("list")) == keys,
        found=f"{sum(found)} of {len(found)} right after their put",
        otherwise="committed shards would be done again; use another store",
    )


def _read_range(store: Store) -> EnvironmentCheck:
    store.put("range", b"0123456789")
    with store.open("range") as file:
        try:
            file.seek(4)
            middle = file.read(3)
        except OSError as error:
            raise StorageError(f"cannot read from the middle of {store.url}/range: {error}") from error
    return _judged(
        "read from the middle",
        middle == b"456",
        found=f"bytes 4 to 6 are {middle!r}",
        otherwise="Parquet files cannot be read piece by piece; use another store",
    )


def _large(store: Store) -> EnvironmentCheck:
    data = bytes(range(256)) * (LARGE_BYTES // 256)
    began_s = time.monotonic()
    store.put("large", data)
    is_same = store.read("large") == data
    rate = 2 * LARGE_BYTES / (time.monotonic() - began_s) / (1 << 20)
    return _judged(
        "large objects",
        is_same,
        found=f"{LARGE_BYTES >> 20} MiB there and back, {rate:.0f} MiB/s",
        otherwise="checkpoints and exports would be damaged; use another store",
    )


def _end_uploads(store: Store) -> EnvironmentCheck:
    """An upload that its writer left: it is paid for until it is ended."""
    assert isinstance(store, S3Store)
    left = store.begin_upload("unfinished", bytes(PART_BYTES))
    is_visible = store.exists("unfinished")
    before = left in store.unfinished_uploads()
    store.end_upload("unfinished", left)
    after = left in store.unfinished_uploads()
    return _judged(
        "unfinished uploads end",
        before and not after and not is_visible,
        found="seen, ended, gone" if before and not after else f"listed before: {before}, after: {after}",
        otherwise="what killed writers leave is paid for; set a lifecycle rule (docs/storage.md)",
    )


def _clock(store: Store) -> EnvironmentCheck:
    assert isinstance(store, S3Store)
    skew_s = store.clock_skew_s()
    state = "ok" if abs(skew_s) <= MAX_SKEW_S else "warning" if abs(skew_s) < REFUSED_SKEW_S else "wrong"
    return EnvironmentCheck(
        name="clock",
        state=state,  # type: ignore[arg-type]
        found=f"{abs(skew_s):.0f} s {'behind' if skew_s < 0 else 'ahead of'} the store's",
        cure="" if state == "ok" else f"set this machine's clock (NTP): past {REFUSED_SKEW_S} s S3 refuses",
    )


def _space(store: Store) -> EnvironmentCheck:
    free_gib = shutil.disk_usage(Path(store.url)).free / GIB
    is_enough = free_gib >= MIN_FREE_GIB
    return EnvironmentCheck(
        name="free space",
        state="ok" if is_enough else "warning",
        found=f"{free_gib:.1f} GiB",
        cure="" if is_enough else "free space: a run of any size wants more",
    )


def _delete(store: Store) -> EnvironmentCheck:
    store.put("deleted", b"")
    store.delete("deleted")
    return _judged(
        "delete",
        not store.exists("deleted") and "deleted" not in set(store.keys("")),
        found="gone at once",
        otherwise="old checkpoints would stay, and be paid for",
    )


def _latency(store: Store) -> EnvironmentCheck:
    taken_s = []
    for number in range(NUM_TIMED):
        began_s = time.monotonic()
        store.create(f"timed/{number}", b"x" * 200)
        store.read(f"timed/{number}")
        taken_s.append(time.monotonic() - began_s)
    median_s = statistics.median(taken_s)
    return EnvironmentCheck(
        name="latency",
        state="ok" if median_s <= MAX_LATENCY_S else "warning",
        found=f"{median_s * 1000:.0f} ms for a small put and get; the longest of {NUM_TIMED} took "
        f"{max(taken_s) * 1000:.0f} ms",
        cure="" if median_s <= MAX_LATENCY_S else "it is far away: take larger shards (problems.shard_size)",
    )


def _nothing_left(store: Store) -> EnvironmentCheck:
    left = [*store.keys("")]
    if isinstance(store, S3Store):
        left += store.unfinished_uploads()
    return _judged(
        "nothing left behind",
        not left,
        found=f"{len(left)} objects" if left else "the prefix is empty again",
        otherwise=f"remove {store.url}: these credentials may not delete",
    )
