"""docs/records.md says what tables.py and the exports hold, and others' tools open it."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    Outcome,
    Phase,
    Problem,
    Record,
    Rollout,
    Source,
    Verdict,
)
from drsft.run.tables import EARLIER_TURNS, RECORD_SCHEMA, records_from_table, records_to_table
from drsft.storage import table_bytes

PAGE = (Path(__file__).parents[2] / "docs/records.md").read_text()


def documented(heading: str) -> list[list[str]]:
    """The cells of the table with that first heading, without back-ticks."""
    _, _, rest = PAGE.partition(f"\n| {heading} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def record(source: Source = Source.OWN, outcome: Outcome = Outcome.CORRECT) -> Record:
    ids, logprobs = (5, 6, 0), (-0.5, -0.25, -1.0)
    completion = Completion(
        token_ids=ids, text="two", behaviour_logprobs_T=logprobs, finish_reason=FinishReason.STOP
    )
    rollout = Rollout(phase=Phase.SELF_ALIGN, sample_index=0, seed=7, prompt_hash="ab", completion=completion)
    attempt = Attempt(rollout=rollout, verdict=Verdict(outcome=outcome, reason="test", answer=None))
    return Record(
        problem=Problem(problem_id=source.value, question="1+1?", demonstration="two", reference="2"),
        source=source,
        prompt_ids=(1, 2),
        completion_ids=ids,
        text="two",
        behaviour_logprobs_T=None if source is Source.EXPERT else logprobs,
        attempts=(attempt,) if source is Source.OWN else (),
        expert_completion_ids=(8, 0),
    )


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    table = records_to_table([record(), record(Source.EXPERT)], {"vllm_version": "1.2", "target_model": "m"})
    (tmp_path / "00000-ab.parquet").write_bytes(table_bytes(table))
    return tmp_path / "00000-ab.parquet"


def test_every_column_is_documented_with_its_type_and_nulls() -> None:
    written = [[field.name, _type(field), "yes" if field.nullable else "no"] for field in RECORD_SCHEMA]
    assert [row[:3] for row in documented("column")] == written


def test_every_field_of_an_attempt_is_documented() -> None:
    attempt = RECORD_SCHEMA.field("attempts").type.value_type
    assert [row[:2] for row in documented("field")] == [[field.name, _type(field)] for field in attempt]


def test_the_column_of_conversations_is_documented() -> None:
    (documented_row,) = documented("last column")
    assert documented_row[:3] == [EARLIER_TURNS.name, _type(EARLIER_TURNS), "no"]


def _type(field: pa.Field) -> str:
    """As Parquet names it; what is inside a struct has a table of its own or is described in words."""
    if pa.types.is_struct(field.type):
        return "struct"
    if pa.types.is_list(field.type):
        return f"list<element: {_type(field.type.value_field)}>"
    return str(field.type)


def test_the_documented_metadata_is_in_the_file(shard: Path) -> None:
    metadata = pq.read_schema(shard).metadata
    assert metadata[b"drsft.schema_version"] == b"3"
    assert metadata[b"drsft.vllm_version"] == b"1.2"
    assert metadata[b"drsft.target_model"] == b"m"
    assert "The schema's version is 3." in PAGE
    names = re.findall(r"`(drsft\.\w+)`", PAGE)
    assert {key.decode() for key in metadata if key.startswith(b"drsft.")} <= set(names)


def test_provenance_changes_no_row(shard: Path) -> None:
    assert records_from_table(pq.read_table(shard)) == records_from_table(
        records_to_table([record(), record(Source.EXPERT)])
    )


def test_shards_of_different_provenance_are_read_as_one_table() -> None:
    tables = [records_to_table([record()], {"vllm_version": version}) for version in ("1", "2")]
    assert pa.concat_tables(tables).num_rows == 2


def test_pandas_opens_records(shard: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is missing: pip install pandas")
    frame = pandas.read_parquet(shard.parent)
    assert list(frame.columns) == RECORD_SCHEMA.names
    expert, own = frame.to_dict("records")
    assert (own["source"], expert["behaviour_logprobs"]) == ("own", None)
    assert list(own["completion_ids"]) == [5, 6, 0]
    assert own["attempts"][0]["outcome"] == "correct"


def test_datasets_opens_records(shard: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is missing: pip install 'drsft[hub]'")
    files = str(shard.parent / "*.parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.column_names == RECORD_SCHEMA.names
    assert rows[0]["behaviour_logprobs"] is None
    assert rows[1]["behaviour_logprobs"] == [-0.5, -0.25, -1.0]
    assert rows[1]["attempts"][0]["answer"] is None
