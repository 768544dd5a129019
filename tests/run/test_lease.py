"""Of several drivers of one run one works; a dead one's lease ends, whatever the clocks say."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from drsft.errors import BusyError
from drsft.run.lease import Holder, Lease, LeaseTiming, acquire, held
from drsft.storage import LocalStore, Store

PACE = LeaseTiming(beat_s=0.02, expires_s=0.6)
# A winner among many threads may not get to its beat for a while.
PATIENT = LeaseTiming(beat_s=0.02, expires_s=5)
ELSEWHERE = replace(Holder.here(), host="elsewhere", machine="another machine", since="2001-01-01T00:00:00")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "run")


def take(store: Store, **options: float) -> Lease:
    return acquire(store, wait_s=options.get("wait_s", 0), pace=PACE, say=lambda line: None)


def left_by(store: Store, holder: Holder) -> None:
    """A term of a driver that was never released and beats no more."""
    store.create("lease/000001.json", json.dumps(asdict(holder)).encode())


@contextmanager
def beating(store: Store) -> Iterator[None]:
    """A driver elsewhere that lives."""
    left_by(store, ELSEWHERE)
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(PACE.beat_s):
            count += 1
            store.put("lease/000001.beat", str(count).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    ended.set()
    thread.join()


def race(store: Store, number: int) -> list[Lease | BusyError]:
    found: list[Lease | BusyError] = []
    start = threading.Barrier(number)

    def one() -> None:
        start.wait()
        try:
            found.append(acquire(store, wait_s=0, pace=PATIENT, say=lambda line: None))
        except BusyError as error:
            found.append(error)

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("prepare", [lambda store: None, lambda store: left_by(store, ELSEWHERE)])
def test_of_many_drivers_one_works(store: LocalStore, prepare: Callable[[Store], None]) -> None:
    """On a fresh run, and when all have seen the same dead driver."""
    prepare(store)
    found = race(store, 8)
    [lease] = [one for one in found if isinstance(one, Lease)]
    lease.release()
    assert len(found) == 8


def test_a_living_driver_is_left_alone_and_named(store: LocalStore) -> None:
    with beating(store), pytest.raises(BusyError, match=r"process \d+ on elsewhere .*lease_wait_s") as caught:
        take(store)
    assert caught.value.exit_code == 3
    assert not store.exists("lease/000002.json")


@pytest.mark.parametrize("step_s", [86_400, -86_400])
def test_a_clock_that_jumps_by_a_day_neither_frees_nor_keeps_a_lease(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    true_time = time.time
    with beating(store):
        monkeypatch.setattr(time, "time", lambda: true_time() + step_s)
        with pytest.raises(BusyError):
            take(store)
    lease = take(store)
    assert lease.term == 2, "its beats have stopped"
    lease.release()


def test_who_waits_goes_on_when_the_other_ends(store: LocalStore) -> None:
    first = take(store)
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        threading.Thread(target=first.release).start()

    second = acquire(store, wait_s=60, pace=PACE, say=say)
    second.release()
    assert (first.term, second.term) == (1, 2)
    assert len(told) == 1
    assert f"process {os.getpid()}" in told[0]


def test_a_lease_that_ended_in_order_is_free_at_once(store: LocalStore) -> None:
    for term in (1, 2, 3):
        with held(store, pace=replace(PACE, expires_s=1e9)) as lease:
            assert lease.term == term


def test_a_driver_killed_on_this_machine_need_not_be_waited_for(store: LocalStore) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from drsft.run.lease import *;"
        "from drsft.storage import LocalStore;"
        "acquire(LocalStore(Path(sys.argv[1])), wait_s=0, pace=LeaseTiming(), say=print);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert done.returncode == -9
    lease = acquire(store, wait_s=0, pace=LeaseTiming(expires_s=1e9), say=print)
    lease.release()
    assert lease.term == 2


class BehindStore(LocalStore):
    """Its listings leave out the newest key."""

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(list(super().keys(prefix))[:-1])


def test_a_listing_that_is_behind_hides_no_holder(store: LocalStore) -> None:
    with held(store, pace=PACE):
        pass
    with held(store, pace=PACE), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        take(BehindStore(store.root))


def test_another_process_of_the_same_number_is_not_the_holder(store: LocalStore) -> None:
    here = Holder.here()
    assert not here.is_gone
    assert replace(here, began="0").is_gone
    assert not replace(here, began="0", machine="another machine").is_gone


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["heard", "ignored"])
def test_a_holder_that_was_thought_dead_ends_when_it_finds_the_later_term(
    store: LocalStore, ctrl_c: Any
) -> None:
    """Also in a shell's background job, which ignores Ctrl-C."""

    def be_slow() -> None:
        with held(store, pace=PACE):
            store.create("lease/000002.json", json.dumps(asdict(ELSEWHERE)).encode())
            threading.Event().wait(60)  # interrupted

    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with pytest.raises(BusyError, match="took over"):
            be_slow()
        assert signal.getsignal(signal.SIGINT) is ctrl_c
    finally:
        signal.signal(signal.SIGINT, before)
    assert not store.exists("lease/000001.released")


def test_an_error_of_the_run_comes_out_as_itself_and_releases(store: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), held(store, pace=PACE):
        _ = 1 / 0
    assert store.exists("lease/000001.released")
