"""Records of other versions of drsft: older ones are read, newer or foreign ones refused in one line."""

import pyarrow as pa
import pytest

from drsft.errors import InputError
from drsft.run.tables import RECORD_SCHEMA, records_from_table, records_to_table
from tests.run.test_records_documented import record


def without(table: pa.Table, columns: set[str], fields: set[str]) -> pa.Table:
    """The table as a version wrote it that did not have these columns and fields of attempts."""
    kept = table.drop_columns(sorted(columns))
    rows = [
        {**row, "attempts": [{k: v for k, v in one.items() if k not in fields} for one in row["attempts"]]}
        for row in kept.to_pylist()
    ]
    attempt = table.schema.field("attempts").type.value_type
    attempts = pa.list_(pa.struct([field for field in attempt.fields if field.name not in fields]))
    schema = pa.schema(
        [pa.field("attempts", attempts) if one.name == "attempts" else one for one in kept.schema],
        metadata={"drsft.schema_version": "1"},
    )
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        (set(), {"round"}),
        ({"round"}, {"round", "mean_phi"}),
        ({"round", "expert_verdict", "also_kept"}, {"round", "mean_phi", "policy", "refusal", "steps"}),
    ],
)
def test_older_records_are_read_as_what_they_would_have_said(columns: set[str], fields: set[str]) -> None:
    written = record()
    assert records_from_table(without(records_to_table([written]), columns, fields)) == [written]


def test_newer_and_foreign_records_are_one_line() -> None:
    table = records_to_table([record()])
    newer = table.replace_schema_metadata({"drsft.schema_version": "99"})
    foreign = without(table, {"prompt_ids", "round"}, set())
    unfinished = without(table, set(), {"stage"})
    for odd, said in ((newer, "version 99"), (foreign, "prompt_ids"), (unfinished, "attempts.stage")):
        with pytest.raises(InputError, match=said) as caught:
            records_from_table(odd)
        assert "\n" not in str(caught.value)


def test_what_may_be_missing_is_what_was_added() -> None:
    assert records_from_table(RECORD_SCHEMA.empty_table()) == []
