"""Properties of packing and of the order in which rows are seen."""

import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.train.encode import Example
from drsft.train.order import RowOrder, micro_batches
from drsft.train.pack import PackedRows, best_fit, pack

SEQ_LEN = 16
lengths_lists = st.lists(st.integers(2, SEQ_LEN), min_size=1, max_size=40)


def examples_of(lengths: list[int]) -> list[Example]:
    """Every token of every example is a number of its own."""
    starts = np.cumsum([0, *lengths])
    return [
        Example(
            problem_id=f"p{index:03d}",
            source="own",
            input_ids_T=np.arange(start, start + length, dtype=np.int32) + 1,
            loss_mask_T=np.arange(length) >= max(1, length // 2),
        )
        for index, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]


@given(lengths_lists)
def test_packing_keeps_every_loss_token_exactly_once(lengths: list[int]) -> None:
    examples = examples_of(lengths)
    rows = pack(examples, seq_len=SEQ_LEN)
    packed = sorted(rows.input_ids_BT[rows.loss_mask_BT].tolist())
    assert packed == sorted(chain.from_iterable(e.input_ids_T[e.loss_mask_T].tolist() for e in examples))


@given(lengths_lists)
def test_segments_are_whole_examples_with_restarted_positions(lengths: list[int]) -> None:
    by_id = {example.problem_id: example for example in examples_of(lengths)}
    rows = pack(list(by_id.values()), seq_len=SEQ_LEN)
    assert sorted(chain.from_iterable(rows.problem_ids)) == sorted(by_id)
    for row, problem_ids in enumerate(rows.problem_ids):
        for segment, problem_id in enumerate(problem_ids, start=1):
            places = np.flatnonzero(rows.segment_ids_BT[row] == segment)
            assert places.tolist() == list(range(places[0], places[-1] + 1))
            assert rows.input_ids_BT[row, places].tolist() == by_id[problem_id].input_ids_T.tolist()
            assert rows.loss_mask_BT[row, places].tolist() == by_id[problem_id].loss_mask_T.tolist()
            assert rows.position_ids_BT[row, places].tolist() == list(range(len(places)))


@given(lengths_lists)
def test_padding_is_a_segment_of_its_own_that_is_never_learnt(lengths: list[int]) -> None:
    rows = pack(examples_of(lengths), seq_len=SEQ_LEN)
    is_padding_BT = rows.segment_ids_BT == 0
    assert is_padding_BT.sum() == rows.input_ids_BT.size - sum(lengths)
    assert not rows.loss_mask_BT[is_padding_BT].any()
    first_of_padding = is_padding_BT & (np.cumsum(is_padding_BT, -1) == 1)
    assert not rows.position_ids_BT[first_of_padding].any()


@given(lengths_lists, st.randoms())
def test_packing_does_not_depend_on_the_order_of_the_examples(lengths: list[int], random) -> None:  # type: ignore[no-untyped-def]
    examples = examples_of(lengths)
    shuffled = random.sample(examples, len(examples))
    assert pack(shuffled, seq_len=SEQ_LEN).to_table() == pack(examples, seq_len=SEQ_LEN).to_table()


@given(lengths_lists)
def test_no_two_rows_could_be_one(lengths: list[int]) -> None:
    bins = best_fit(sorted(lengths, reverse=True), capacity=SEQ_LEN)
    fills = sorted(sum(sorted(lengths, reverse=True)[i] for i in members) for members in bins)
    assert fills[-1] <= SEQ_LEN
    assert len(fills) < 2 or fills[0] + fills[1] > SEQ_LEN


def test_a_length_goes_where_it_fits_best() -> None:
    assert best_fit([4, 3, 2, 1], capacity=5) == [[0, 3], [1, 2]]
    with pytest.raises(ValueError, match="does not fit"):
        best_fit([6], capacity=5)


@given(lengths_lists)
@settings(max_examples=20)
def test_rows_survive_the_table(lengths: list[int]) -> None:
    rows = pack(examples_of(lengths), seq_len=SEQ_LEN)
    again = PackedRows.from_table(rows.to_table())
    assert again.problem_ids == rows.problem_ids
    for name in ("input_ids_BT", "position_ids_BT", "segment_ids_BT", "loss_mask_BT"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
        assert getattr(again, name).dtype == getattr(rows, name).dtype


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 3), st.integers(0, 5))
def test_every_epoch_sees_every_row_once(num_rows: int, batch_rows: int, num_epochs: int, seed: int) -> None:
    order = RowOrder(num_rows=num_rows, batch_rows=batch_rows, num_epochs=num_epochs, seed=seed)
    steps = [order.rows_of(step).tolist() for step in range(order.num_steps)]
    assert max(map(len, steps)) <= batch_rows
    per_epoch = math.ceil(num_rows / batch_rows)
    for epoch in range(num_epochs):
        seen = chain.from_iterable(steps[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(seen) == list(range(num_rows))


def test_the_seed_and_the_epoch_order_the_rows() -> None:
    def order(seed: int, step: int) -> list[int]:
        rows = RowOrder(num_rows=50, batch_rows=50, num_epochs=2, seed=seed).rows_of(step)
        return [int(row) for row in rows]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 7))
def test_ranks_share_the_rows_and_do_equally_many_forwards(num_rows: int, num_ranks: int, size: int) -> None:
    shares = [
        micro_batches(list(range(num_rows)), rank=rank, num_ranks=num_ranks, micro_batch_rows=size)
        for rank in range(num_ranks)
    ]
    assert len({len(share) for share in shares}) == 1
    assert max(len(batch) for share in shares for batch in share) <= size
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(num_rows))
