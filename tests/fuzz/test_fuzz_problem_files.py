"""Problem files: what is no usable row is set aside and counted, what is no file is one line."""

import gzip
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.config import Columns, Problems
from drsft.intake.formats.row import MAX_ROW_BYTES
from drsft.intake.problems import Intake, read_problems
from drsft.records import Problem
from tests.fuzz.doors import HOSTILE, TEXT, VALUES, damaged, folder, knock

GOOD = {"problem": "1+1?", "solution": "It is \\boxed{2}", "answer": "2"}
LINES = st.one_of(
    st.just(json.dumps(GOOD).encode()),
    st.builds(lambda value: json.dumps(value).encode(), VALUES),
    st.builds(
        lambda values: json.dumps({**GOOD, **values}).encode(),
        st.dictionaries(st.sampled_from(list(GOOD)), VALUES),
    ),
    st.binary(max_size=60),
    st.sampled_from(
        [b"[" * 100_000, b'{"problem":' * 5000, b"[" * 900 + b"]" * 900, b'{"a":1e999}', b"\xff\xfe{"]
    ),
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])
ARRAYS = st.sampled_from(
    [
        pa.array([1, None]),
        pa.array([1.5, float("nan")]),
        pa.array(["1+1?", None]),
        pa.array([b"\xff\xfe", b"x"]),
        pa.array([["a", "b"], []]),
        pa.array([{"x": "1"}, None]),
        pa.array([[{"k": 1}], None]),
        pa.array([Decimal("1.50"), None]),
        pa.array([1, 2**62], pa.timestamp("ns")),
        pa.array([datetime(2026, 1, 1, tzinfo=UTC), None]),
        pa.array([2**50, 0], pa.timestamp("s")),
        pa.array([2**30, 1], pa.date32()),
        pa.array([1, 2], pa.duration("ns")),
        pa.array([None, None]),
        pa.array(["a", "a"]).dictionary_encode(),
        pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string())),
        pa.array([True, False]),
    ]
)


def read(path: Path | str, **options: Any) -> list[Problem]:
    """All problems of a file; what was read is accounted for, and what is kept can be written."""
    intake = Intake()
    config = Problems(path=str(path), **options)
    problems = list(read_problems(config, intake))
    assert intake.num_read == len(problems) + len(intake.quarantined) + intake.num_duplicates
    for problem in problems:
        "".join((problem.question, problem.demonstration, problem.reference)).encode()
    json.dumps([row.content.encode().decode() for row in intake.quarantined])
    return problems


@given(lines=st.lists(LINES, max_size=6))
def test_json_lines(lines: list[bytes]) -> None:
    with folder() as here:
        (here / "a.jsonl").write_bytes(b"\n".join(lines))
        knock("problems: JSON lines", lambda: read(here / "a.jsonl"))


@given(
    rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, TEXT)), max_size=4),
    encoding=ENCODINGS,
)
def test_encodings(rows: list[dict[str, str]], encoding: str) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in [GOOD, *rows])
    with folder() as here:
        (here / "a.jsonl").write_bytes(text.encode(encoding, errors="replace"))
        knock("problems: encodings", lambda: read(here / "a.jsonl"))


@given(
    data=damaged(
        gzip.compress(b"".join(json.dumps({**GOOD, "problem": f"{n}?"}).encode() + b"\n" for n in range(300)))
    )
)
def test_damaged_gzip(data: bytes) -> None:
    with folder() as here:
        (here / "a.jsonl.gz").write_bytes(data)
        knock("problems: gzip", lambda: read(here / "a.jsonl.gz"))


@given(
    columns=st.dictionaries(
        st.sampled_from(["problem", "solution", "answer", "kind"]) | HOSTILE, ARRAYS, max_size=4
    )
)
def test_parquet_of_any_schema(columns: dict[str, pa.Array]) -> None:
    names = {name.encode(errors="replace").decode(): array for name, array in columns.items()}
    with folder() as here:
        pq.write_table(pa.table(names), here / "a.parquet")
        knock("problems: Parquet schemas", lambda: read(here / "a.parquet", columns=Columns(kind="kind")))


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({name: [value] * 50 for name, value in GOOD.items()}), sink)
    return sink.getvalue()


@given(data=damaged(_parquet()))
def test_damaged_parquet(data: bytes) -> None:
    with folder() as here:
        (here / "a.parquet").write_bytes(data)
        knock("problems: damaged Parquet", lambda: read(here / "a.parquet"))


@given(question=TEXT, reference=TEXT, kind=st.none() | TEXT)
def test_column_names(question: str, reference: str, kind: str | None) -> None:
    columns = Columns(question=question, reference=reference, kind=kind)
    with folder() as here:
        (here / "a.jsonl").write_text(json.dumps({**GOOD, "{": "x", "a\nb": "\x1b[31m"}))
        knock("problems: column names", lambda: read(here / "a.jsonl", columns=columns))


@given(path=TEXT.filter(bool))
def test_paths(path: str) -> None:
    knock("problems: paths", lambda: read(path))


@pytest.mark.parametrize("num_bytes", [100 << 20, MAX_ROW_BYTES + 1])
def test_a_line_of_100_mb_is_set_aside_and_the_next_one_is_read(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"problem": "' + b"x" * num_bytes + b'"}\n' + json.dumps(GOOD).encode())
    intake = Intake()
    problems = list(read_problems(Problems(path=str(path)), intake))
    assert [problem.question for problem in problems] == ["1+1?"]
    [row] = intake.quarantined
    assert "MiB in one line" in row.detail
    assert len(row.content) <= 500
