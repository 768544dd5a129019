"""A lease in the run's store lets one driver at a time work on a run. Machines need not share a clock.

    lease/000003.json       created once, by an exclusive put: term 3, and who holds it
    lease/000003.beat       a heartbeat: a count that only the holder raises, every few seconds
    lease/000003.released   the holder ended the term

A second driver watches the newest term's count by its own clock. While the count grows, the holder is alive.
When it has not grown for `expires_s`, the lease has expired and the next term may be created; if several
drivers try, exactly one succeeds. A holder that was only slow finds the next term at its next heartbeat and
stops. What it commits until then does no harm: each shard is committed only once.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from drsft.errors import BusyError, StorageError
from drsft.process.interrupts import interrupt, interruptible
from drsft.run import layout
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["Holder", "Lease", "LeaseTiming", "acquire", "held"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    """The holder stores a heartbeat every `beat_s` seconds; after `expires_s` without one the lease expires.

    `expires_s` is several heartbeats long, so that a slow store does not end a lease.
    """

    beat_s: float = 5.0
    expires_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The driver process that holds a term.

    `machine` and `began` show whether the process with this number is still the same one. `mark` makes the
    bytes of every claim unique: when S3 answers "exists" to a retry, they show whether the object is this
    process's own, from an earlier attempt whose response was lost.
    """

    host: str
    pid: int
    machine: str
    began: str | None
    since: str
    mark: str

    @classmethod
    def here(cls) -> "Holder":
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            machine=_machine(),
            began=_began(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            mark=uuid.uuid4().hex,
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"

    @property
    def is_gone(self) -> bool:
        """Whether the process has certainly ended.

        This is known only of processes on this machine; on other machines, only missing heartbeats show an
        end.
        """
        return self.began is not None and self.machine == _machine() and _began(self.pid) != self.began


class Lease:
    """A term of the lease, held by this process: a thread sends the heartbeats until `release` is called."""

    def __init__(self, store: Store, term: int, *, pace: LeaseTiming, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called from another thread when a later term is found."""
        self.term = term
        self.is_lost = False
        self._store, self._pace, self._on_lost = store, pace, on_lost
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        if not self.is_lost:
            try:
                self._store.create(layout.lease(self.term, "released"), b"")
            except (
                StorageError
            ) as error:  # the lease expires; the error that ended the run must be raised, not this one
                logger.warning("this run's lease could not be released; it expires by itself: %s", error)

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(self._pace.beat_s):
            count += 1
            try:
                self.is_lost = self._store.exists(layout.lease(self.term + 1, "json"))
                if not self.is_lost:
                    self._store.put(layout.lease(self.term, "beat"), str(count).encode())
            except StorageError as error:  # the next heartbeat may succeed; if none does, the term expires
                logger.warning("heartbeat %d of this run's lease could not be stored: %s", count, error)
            if self.is_lost:
                return self._on_lost()


@contextmanager
def held(
    store: Store,
    *,
    wait_s: float = 0,
    pace: LeaseTiming = LeaseTiming(),
    say: Callable[[str], None] = logger.info,
) -> Iterator[Lease]:
    """Holds the lease of the run in `store` for the length of the block. Call it on the main thread.

    If another driver has the lease, this first watches its heartbeats for at most `pace.expires_s`. It takes
    over a lease without heartbeats. It raises BusyError if the other driver is alive and still has the lease
    after `wait_s`. If another driver takes over this lease during the block, it interrupts the block and
    raises BusyError.
    """
    with interruptible() as lost:
        lease = acquire(store, wait_s=wait_s, pace=pace, say=say, on_lost=partial(interrupt, lost))
        try:
            yield lease
        except BaseException:  # any error that the interrupt was turned into
            if lease.is_lost:
                raise BusyError(
                    f"another driver took over {store.url}, because this driver's lease had expired; "
                    "let the other driver continue"
                ) from None
            raise
        finally:
            lease.release()


def acquire(
    store: Store,
    *,
    wait_s: float,
    pace: LeaseTiming,
    say: Callable[[str], None],
    on_lost: Callable[[], None] = lambda: None,
) -> Lease:
    """Waits until nobody holds the lease, then creates its next term and returns it.

    A term ends when it is released, or when its holder has ended or stored no heartbeat for `expires_s`. To
    find that out, this watches the holder for up to `expires_s`, even if `wait_s` is 0. Raises BusyError if
    another driver is alive and still holds the lease after `wait_s`. `say` gets lines for the user.
    """
    until_s = time.monotonic() + wait_s
    told: int | None = None
    while True:
        term = _newest(store)
        holder = read_stored(store, layout.lease(term, "json"), Holder) if term else None
        if holder is None or _is_over(store, term, holder):
            if store.create(layout.lease(term + 1, "json"), json.dumps(asdict(Holder.here())).encode()):
                return Lease(store, term + 1, pace=pace, on_lost=on_lost)
            continue
        if told != term:
            told = term
            limit = f"{pace.expires_s:g} s at most"
            say(f"{holder} holds this run's lease; checking whether it is alive ({limit})")
        if _has_stopped_beating(store, term, pace):
            say(f"{holder} has not renewed its lease for {pace.expires_s:g} s; continuing in its place")
            if store.create(layout.lease(term + 1, "json"), json.dumps(asdict(Holder.here())).encode()):
                return Lease(store, term + 1, pace=pace, on_lost=on_lost)
        elif time.monotonic() >= until_s and not _is_over(store, term, holder):
            raise BusyError(
                f"{holder} works on {store.url}; wait until it ends (set resources.lease_wait_s), or stop it"
            )


def _is_over(store: Store, term: int, holder: Holder) -> bool:
    return store.exists(layout.lease(term, "released")) or holder.is_gone


def _has_stopped_beating(store: Store, term: int, pace: LeaseTiming) -> bool:
    """Watches a term and returns whether its count stays equal for `expires_s`.

    It returns False as soon as the count changes or the term is released.
    """
    before, until_s = _count(store, term), time.monotonic() + pace.expires_s
    while time.monotonic() < until_s:
        time.sleep(pace.beat_s / 2)
        if _count(store, term) != before or store.exists(layout.lease(term, "released")):
            return False
    return True


def _count(store: Store, term: int) -> bytes:
    key = layout.lease(term, "beat")
    return store.read(key) if store.exists(key) else b""


def _newest(store: Store) -> int:
    names = [key.rsplit("/", 1)[1] for key in store.keys(layout.LEASE)]
    terms = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    newest = max((int(term) for term in terms if term.isdecimal()), default=0)
    while store.exists(layout.lease(newest + 1, "json")):  # a listing may be behind
        newest += 1
    return newest


def _machine() -> str:
    """Returns an id shared by all processes that can see each other's process numbers, and by no others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str | None:
    """Returns when a running process began, in ticks since boot (proc(5), field 22).

    Returns None if there is none.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]
