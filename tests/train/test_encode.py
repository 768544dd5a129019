import pyarrow as pa
import pytest

from drsft.errors import StageError
from drsft.train.encode import encode
from tests.support.train import END_OF_TURN, RECORDS_SCHEMA, make_records


def test_loss_mask_is_one_exactly_on_the_completion_with_its_end_of_turn() -> None:
    records = make_records(20)
    for example, row in zip(
        encode(records, data="rewritten", seq_len=99).examples, records.to_pylist(), strict=True
    ):
        learnt = example.input_ids_T[example.loss_mask_T].tolist()
        assert learnt == row["completion_ids"]
        assert learnt[-1] == END_OF_TURN
        assert example.input_ids_T[~example.loss_mask_T].tolist() == row["prompt_ids"]


def test_expert_view_takes_the_experts_completions_and_says_so() -> None:
    records = make_records(5)
    encoding = encode(records, data="expert", seq_len=99)
    expected = records["expert_completion_ids"].to_pylist()
    assert [e.input_ids_T[e.loss_mask_T].tolist() for e in encoding.examples] == expected
    assert {e.source for e in encoding.examples} == {"expert"}


def test_rows_too_long_are_dropped_whole_and_counted() -> None:
    records = make_records(40)
    lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in records.to_pylist()]
    encoding = encode(records, data="rewritten", seq_len=12)
    assert [len(e.input_ids_T) for e in encoding.examples] == [n for n in lengths if n <= 12]
    assert encoding.num_too_long == sum(n > 12 for n in lengths) > 0


@pytest.mark.parametrize("empty", ["prompt_ids", "completion_ids"])
def test_an_empty_side_is_refused_by_the_problems_name(empty: str) -> None:
    row = {**make_records(1).to_pylist()[0], empty: []}
    with pytest.raises(StageError, match=f"problem-000.*{empty}"):
        encode(pa.Table.from_pylist([row], schema=RECORDS_SCHEMA), data="rewritten", seq_len=99)
