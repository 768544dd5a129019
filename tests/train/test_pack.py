"""Properties of packing and of the order in which rows are seen."""

import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.bench.training.train_data import draw_examples
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
            thought_mask_T=np.arange(length) == length - 1,
        )
        for index, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]


@given(lengths_lists, st.booleans())
def test_packing_keeps_every_document_whole_and_once(lengths: list[int], one_a_row: bool) -> None:
    by_id = {example.problem_id: example for example in examples_of(lengths)}
    rows = pack(list(by_id.values()), seq_len=SEQ_LEN, one_a_row=one_a_row)
    assert sorted(rows.problem_ids) == sorted(by_id)
    for row in range(len(rows)):
        documents = rows.documents([row])
        members = [by_id[problem_id] for problem_id in rows.problem_ids_of(row)]
        assert len(members) == 1 or not one_a_row
        assert documents.lengths == tuple(len(member.input_ids_T) for member in members)
        assert rows.num_tokens([row]) == sum(documents.lengths) <= SEQ_LEN
        assert documents.input_ids_T.tolist() == [*chain(*(member.input_ids_T for member in members))]
        assert documents.loss_mask_T.tolist() == [*chain(*(member.loss_mask_T for member in members))]
        assert rows.num_loss_tokens([row]) == documents.loss_mask_T.sum()
        assert documents.position_ids_T.tolist() == [*chain(*map(range, documents.lengths))]


@settings(deadline=None)
@given(lengths_lists, st.randoms(use_true_random=False))
def test_a_micro_batch_is_its_rows_one_after_another(lengths: list[int], random) -> None:  # type: ignore[no-untyped-def]
    rows = pack(examples_of(lengths), seq_len=SEQ_LEN)
    chosen = random.sample(range(len(rows)), random.randint(1, len(rows)))
    together, alone = rows.documents(chosen), [rows.documents([row]) for row in chosen]
    assert together.lengths == tuple(chain(*(one.lengths for one in alone)))
    for name in ("input_ids_T", "loss_mask_T", "position_ids_T"):
        parts = [getattr(one, name) for one in alone]
        np.testing.assert_array_equal(getattr(together, name), np.concatenate(parts))
    assert rows.num_tokens(chosen) == len(together.input_ids_T)
    assert rows.num_loss_tokens(chosen) == together.loss_mask_T.sum()


@settings(deadline=None)  # the first table loads parts of pyarrow
@given(lengths_lists, st.randoms(use_true_random=False))
def test_packing_does_not_depend_on_the_order_of_the_examples(lengths: list[int], random) -> None:  # type: ignore[no-untyped-def]
    examples = examples_of(lengths)
    shuffled = random.sample(examples, len(examples))
    assert pack(shuffled, seq_len=SEQ_LEN).to_table() == pack(examples, seq_len=SEQ_LEN).to_table()


def test_rows_of_real_lengths_are_full_and_hold_texts_of_all_lengths() -> None:
    lengths = np.random.default_rng(0).lognormal(4.8, 0.4, 2000).round().astype(int).clip(2, 512).tolist()
    rows = pack(examples_of(lengths), seq_len=1024)
    assert rows.share_filled > 0.96
    means = [np.mean(rows.documents([row]).lengths) for row in range(len(rows))]
    # Rows of seven or so random texts; sorted texts would give a spread like that of the texts themselves.
    assert np.std(means) < 0.55 * np.std(lengths)


@given(lengths_lists)
def test_no_two_rows_could_be_one(lengths: list[int]) -> None:
    fills = sorted(sum(lengths[i] for i in members) for members in best_fit(lengths, capacity=SEQ_LEN))
    assert fills[-1] <= SEQ_LEN
    assert len(fills) < 2 or fills[0] + fills[1] > SEQ_LEN


def test_a_length_goes_where_it_fits_best() -> None:
    assert best_fit([4, 3, 2, 1], capacity=5) == [[0, 3], [1, 2]]
    with pytest.raises(ValueError, match="a row can have"):
        best_fit([6], capacity=5)


@given(lengths_lists)
@settings(max_examples=20, deadline=None)
def test_rows_survive_the_table(lengths: list[int]) -> None:
    rows = pack(examples_of(lengths), seq_len=SEQ_LEN)
    again = PackedRows.from_table(rows.to_table())
    assert (again.problem_ids, again.seq_len) == (rows.problem_ids, SEQ_LEN)
    for name in ("input_ids_T", "loss_mask_T", "document_offsets", "row_offsets"):
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


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 5), st.integers(20, 60))
def test_ranks_share_the_rows_and_do_equally_many_forwards(
    lengths: list[int], num_ranks: int, most_tokens: int
) -> None:
    rows = [3 * index for index in range(len(lengths))]
    length_of = dict(zip(rows, lengths, strict=True))
    shares = [
        micro_batches(rows, lengths, rank=rank, num_ranks=num_ranks, most_tokens=most_tokens)
        for rank in range(num_ranks)
    ]
    assert len({len(share) for share in shares}) == 1
    assert max(sum(length_of[row] for row in batch) for share in shares for batch in share) <= most_tokens
    assert sorted(row for share in shares for batch in share for row in batch) == rows
    totals = [sum(length_of[row] for batch in share for row in batch) for share in shares]
    assert max(totals) - min(totals) <= max(lengths)


def test_the_longest_rows_are_dealt_first() -> None:
    lengths = [4, 3, 2, 2, 1]
    shares = [micro_batches(range(5), lengths, rank=rank, num_ranks=2, most_tokens=4) for rank in range(2)]
    assert shares == [[[0], [3]], [[1], [2, 4]]]


def test_a_row_above_the_limit_is_a_forward_of_its_own() -> None:
    assert [0] in micro_batches([0, 1, 2], [9, 1, 2], rank=0, num_ranks=1, most_tokens=4)


@pytest.mark.parametrize(
    ("batch_rows", "num_ranks", "one_a_row", "most"),
    [(128, 2, False, 1.01), (128, 8, False, 1.01), (128, 16, False, 1.01), (128, 2, True, 1.01),
     (128, 8, True, 1.01), (128, 16, True, 1.02), (64, 16, True, 1.06), (32, 8, True, 1.08)],
)  # fmt: skip
def test_ranks_have_nearly_equal_tokens_at_the_lengths_of_grade_school_problems(
    batch_rows: int, num_ranks: int, one_a_row: bool, most: float
) -> None:
    """Of every step; the last two have four texts a rank, and once one of 0.93 of the mean alone."""
    rows = pack(draw_examples(num=8_000), seq_len=1024, one_a_row=one_a_row)
    order = RowOrder(num_rows=len(rows), batch_rows=batch_rows, num_epochs=1, seed=0)
    shares = []
    for step in range(len(rows) // batch_rows):  # an epoch's last step may have fewer rows than ranks
        indices = order.rows_of(step)
        lengths = rows.row_lengths(indices)
        totals = [
            sum(rows.num_tokens(batch) for batch in batches)
            for rank in range(num_ranks)
            if (batches := micro_batches(indices, lengths, rank=rank, num_ranks=num_ranks, most_tokens=2048))
        ]
        shares.append(max(totals) * num_ranks / lengths.sum())
    print(f"{batch_rows} rows on {num_ranks}: at most {max(shares):.3f}, on average {np.mean(shares):.3f}")
    assert max(shares) <= most
