"""Tests that imports pause the garbage collector, and only for their length."""

import gc

import pytest

from drsft.process.collector import collector_paused


def test_the_collector_is_paused_inside_and_runs_behind() -> None:
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled(), "an inner pause ends with the outer one"
    assert gc.isenabled()


def test_an_import_that_fails_does_not_leave_it_paused() -> None:
    with pytest.raises(ModuleNotFoundError), collector_paused():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_what_was_made_inside_is_not_visited_again() -> None:
    frozen = gc.get_freeze_count()
    with collector_paused():
        made = [[number] for number in range(10_000)]
    assert gc.get_freeze_count() >= frozen + len(made)
