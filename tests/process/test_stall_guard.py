"""The guard calls when nothing moves while there is work, and at no other time."""

import itertools
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import pytest

from drsft.process.stall_guard import CHECKS, StallGuard

LIMIT_S = 0.2


@contextmanager
def guarding(signs: Callable[[], Hashable]) -> Iterator[threading.Event]:
    """Yields what is set when the guard has called."""
    called = threading.Event()
    guard = StallGuard(signs, lambda limit_s: called.set(), limit_s=LIMIT_S)
    try:
        yield called
    finally:
        guard.close()


def test_work_that_stands_still_is_told_with_every_stack(capfd: pytest.CaptureFixture[str]) -> None:
    with guarding(lambda: ("a shard", 7)) as called:
        called.wait()
    said = capfd.readouterr().err
    assert "Current thread" in said
    assert "test_work_that_stands_still_is_told_with_every_stack" in said


@pytest.mark.parametrize("between", [1, CHECKS], ids=["each check", "just before the limit"])
def test_work_that_moves_is_left_alone(between: int) -> None:
    counts, is_over = itertools.count(), threading.Event()

    def signs() -> int:
        number = next(counts)
        if number > 4 * CHECKS:
            is_over.set()
        return number // between

    with guarding(signs) as called:
        is_over.wait()
        assert not called.is_set()


def test_no_work_is_no_stall() -> None:
    counts, is_over = itertools.count(), threading.Event()

    def signs() -> None:
        if next(counts) > 4 * CHECKS:
            is_over.set()

    with guarding(signs) as called:
        is_over.wait()
        assert not called.is_set()
