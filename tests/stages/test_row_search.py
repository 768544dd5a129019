"""Which row of a shard is found to kill its engine, and what is said where none is."""

import math

from hypothesis import given
from hypothesis import strategies as st

from drsft.stages.row_search import Culprit, RowSearch


def searched(num_rows: int, deadly: set[int], max_deaths: int) -> tuple[Culprit | None, int]:
    """The culprit, unless the search gave up, and how many engines it took."""
    search, num_deaths = RowSearch("cause"), 0
    while search.culprit is None:
        if deadly & set(search.part(num_rows)):
            num_deaths += 1
            assert search.died()
            assert num_deaths <= max_deaths
        elif not search.survived():
            return None, num_deaths
    return search.culprit, num_deaths


@given(num_rows=st.integers(1, 300), data=st.data())
def test_one_deadly_row_is_found_with_as_many_deaths_as_halvings(num_rows: int, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, num_rows - 1))
    culprit, _ = searched(num_rows, {row}, math.ceil(math.log2(num_rows)) + 1)
    assert culprit == Culprit(row=row, cause="cause")


@given(num_rows=st.integers(1, 300))
def test_where_no_row_kills_the_engine_by_itself_none_is_named(num_rows: int) -> None:
    assert searched(num_rows, set(), 0) == (None, 0)


@given(num_rows=st.integers(2, 300), data=st.data())
def test_what_runs_without_the_row_that_was_found_must_survive(num_rows: int, data: st.DataObject) -> None:
    deadly = data.draw(st.sets(st.integers(0, num_rows - 1), min_size=2))
    search = RowSearch("cause")
    while search.culprit is None:
        is_deadly = bool(deadly & set(search.part(num_rows)))
        assert search.died() if is_deadly else search.survived()
    assert search.culprit.row in deadly
    assert not search.died(), "the rest of the shard ran, not a part"


def test_a_part_that_a_lost_node_cut_off_runs_again() -> None:
    search = RowSearch("cause")
    assert search.part(8) == search.part(8) == range(4)
