"""The study of gradients: every split of a step's work against the definition."""

import pytest

from drsft.bench.training.train_data import draw_examples
from drsft.train.pack import PackedRows
from tests.studies.parity import CASES, Case, bench_parity


@pytest.mark.slow
def test_the_gradient_is_the_definitions_for_every_split() -> None:
    found = bench_parity()
    assert [one.case for one in found] == list(CASES)
    assert max(error for one in found for error in one.errors.values()) < 1e-5


def test_forwards_are_counted_for_each_worker() -> None:
    one = draw_examples(num=1)[0]
    rows = PackedRows.of([[one]] * 7, seq_len=len(one.input_ids_T))
    assert Case(micro_batch_rows=2).num_forwards(rows) == 4
    assert Case(micro_batch_rows=2, num_workers=2).num_forwards(rows) == 2
