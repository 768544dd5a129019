"""Files as people have them: each shape is read to the same rows, with every value as the file spells it."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from drsft.config import Problems, Reading
from drsft.errors import InputError
from drsft.intake.formats.choice import FORMATS, Format
from drsft.intake.rows import BadRow, Row, read_rows

ROWS = [
    {"id": "a1", "question": "What is 3+4?", "answer": "007", "solution": 'It is\nseven, or "7".'},
    {
        "id": "b2",
        "question": "Was ist 1,5 × 2; ungefähr?",
        "answer": "3.10",
        "solution": "四分之三 is no answer.",
    },
    {"id": "c3", "question": "Name\ta tab.", "answer": "9007199254740993", "solution": "x"},
]
INNER = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]


ROOT = Path(__file__).parents[3]


def fields_of(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    rows = list(read_rows(Problems(path=str(path), **options)))
    assert [row for row in rows if isinstance(row, BadRow)] == []
    return [row.fields for row in rows if isinstance(row, Row)]


def as_lines(rows: list[dict[str, Any]] = ROWS) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(separator: str = ",", *, header: bool = True, rows: list[dict[str, Any]] = ROWS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return sink.getvalue().to_pybytes()


def as_arrow(*, is_file: bool, **options: Any) -> bytes:
    sink, table = pa.BufferOutputStream(), pa.Table.from_pylist(ROWS)
    new = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with new(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


def as_parquet(**options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, **options)
    return sink.getvalue()


BY_ID = {row["id"]: inner for row, inner in zip(ROWS, INNER, strict=True)}
COLUMNS = {key: [row[key] for row in ROWS] for key in ROWS[0]}
PANDAS = {key: {str(place): value for place, value in enumerate(values)} for key, values in COLUMNS.items()}
SHAPES: dict[str, str | bytes] = {
    "lines.jsonl": as_lines(),
    "lines.ndjson": as_lines(),
    "lines.jsonlines": as_lines(),
    "lines.txt": as_lines(),
    "lines-in.json": as_lines(),
    "lines-in.csv": as_lines(),
    "no_suffix": as_lines(),
    "windows.jsonl": as_lines().replace("\n", "\r\n"),
    "bom.jsonl": as_lines().encode("utf-8-sig"),
    "utf16.jsonl": as_lines().encode("utf-16"),
    "utf16-no-mark.jsonl": as_lines().encode("utf-16-le"),
    "array.json": json.dumps(ROWS),
    "array-indented.json": json.dumps(ROWS, indent=2),
    "array-in.jsonl": json.dumps(ROWS),
    "array.txt": json.dumps(ROWS, indent=1),
    "below-data.json": json.dumps({"version": "1.0", "data": ROWS, "license": None}),
    "below-train.json": json.dumps({"train": ROWS, "test": ROWS[:1]}, indent=1),
    "below-rows.json": json.dumps({"features": [{"name": "id"}], "rows": ROWS}),
    "by-id.json": json.dumps(BY_ID),
    "by-id-indented.json": json.dumps(BY_ID, indent=4),
    "splits-by-id.json": json.dumps({"train": BY_ID, "validation": {}}),
    "columns.json": json.dumps(COLUMNS),
    "pandas.json": json.dumps(PANDAS),
    "objects.json": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "table.csv": as_csv(),
    "semicolons.csv": as_csv(";"),
    "pipes.txt": as_csv("|"),
    "excel.csv": ("sep=;\r\n" + as_csv(";")).encode("utf-8-sig"),
    "excel16.csv": as_csv("\t").encode("utf-16"),
    "tabs.tsv": as_csv("\t"),
    "tabs-in.csv": as_csv("\t"),
    "table-in.jsonl": as_csv(),
    "lines.jsonl.gz": gzip.compress(as_lines().encode()),
    "gz-without-suffix.jsonl": gzip.compress(as_lines().encode()),
    "two-members.jsonl.gz": b"".join(gzip.compress(as_lines([row]).encode()) for row in ROWS),
    "table.csv.gz": gzip.compress(as_csv().encode()),
    "array.json.zst": as_zst(json.dumps(ROWS).encode()),
    "two-frames.jsonl.zst": b"".join(as_zst(as_lines([row]).encode()) for row in ROWS),
    "lines.jsonl.bz2": bz2.compress(as_lines().encode()),
    "lines.jsonl.xz": lzma.compress(as_lines().encode()),
    "utf16.csv.gz": gzip.compress(as_csv().encode("utf-16")),
    "rows.parquet": as_parquet(),
    "zstd.parquet": as_parquet(compression="zstd", row_group_size=1),
    "parquet-in.json": as_parquet(),
    "rows.arrow": as_arrow(is_file=True),
    "stream.arrow": as_arrow(is_file=False),
    "rows.feather": as_arrow(is_file=True, options=pa.ipc.IpcWriteOptions(compression="lz4")),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_read_to_its_rows(tmp_path: Path, name: str) -> None:
    content = SHAPES[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = fields_of(path)
    assert [{key: row[key] for key in ROWS[0]} for row in found] == ROWS
    assert all(set(row) == set(ROWS[0]) for row in found)


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_a_format_is_in_the_configuration_in_the_docs_and_among_the_shapes(one: Format) -> None:
    assert one.name in str(Reading.model_fields["format"].annotation)
    assert f"| `{one.name}` |" in (ROOT / "docs/data.md").read_text()
    assert any(name.endswith(one.suffixes) for name in SHAPES)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_table_without_a_header_has_numbered_columns(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(as_csv(separator, header=False))
    named = [
        dict(zip(("column_1", "column_2", "column_3", "column_4"), row.values(), strict=True)) for row in ROWS
    ]
    assert fields_of(path) == named
    path.write_text(as_csv(separator))
    assert fields_of(path, reading={"header": False})[1:] == named


def test_names_of_options_are_a_header_though_their_letters_come_again_below(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Question,A,B,C,D,Answer\nWhich?,A,x,y,z,A\nWhere?,1,2,3,4,D\nWho?,1,2,3,4,B\n")
    assert [row["Answer"] for row in fields_of(path)] == ["A", "D", "B"]


def test_a_comma_within_the_quotes_of_every_row_parts_no_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text,answer\n" + "".join(f'{i},"One, two",{i}\n' for i in range(40)))
    assert {row["text"] for row in fields_of(path)} == {"One, two"}


def test_a_name_above_numbers_is_a_header_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("What was the question that you asked?,Final?\nWhat is 1 + 1?,2\nWhat is 1 + 2?,3\n")
    assert [row["Final?"] for row in fields_of(path)] == ["2", "3"]


def test_a_first_record_that_comes_again_below_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("two and two,four\none and one,two\ntwo and two,four\n")
    assert len(fields_of(path)) == 3


def test_a_number_is_written_with_the_digits_of_its_file(tmp_path: Path) -> None:
    line = '{"a": 0.1, "b": 3.10, "c": 1e400, "d": 9007199254740993, "e": 12345678901234567890.5, "f": "007"}'
    for name, text in {"a.jsonl": line, "a.json": f"[{line}]"}.items():
        (tmp_path / name).write_text(text)
        (row,) = fields_of(tmp_path / name)
        assert [str(value) for value in row.values()] == [
            *("0.1", "3.10", "1E+400", "9007199254740993", "12345678901234567890.5", "007")
        ]


def test_types_that_change_after_thousands_of_rows_stay_each_rows_own(tmp_path: Path) -> None:
    values: list[Any] = [*["007"] * 3000, 12, "1.50", None, [1], {"x": 1}, True]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"answer": value}) + "\n" for value in values))
    (tmp_path / "a.json").write_text(json.dumps([{"answer": value} for value in values]))
    for name in ("a.jsonl", "a.json"):
        assert [row["answer"] for row in fields_of(tmp_path / name)] == values
    cells = [*["7"] * 3000, "007", "1.50", "", "nan", "true", "2024-01-01"]
    (tmp_path / "a.csv").write_text("id,answer\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    assert [row["answer"] for row in fields_of(tmp_path / "a.csv")] == cells


SCALARS: dict[str, tuple[pa.Array, list[Any]]] = {
    "decimal": (pa.array([Decimal("1.50"), None]), [Decimal("1.50"), None]),
    "boolean": (pa.array([True, False]), [True, False]),
    "date": (pa.array([date(2024, 2, 29), None]), [date(2024, 2, 29), None]),
    "float32": (pa.array([0.1, 3.0], pa.float32()), [0.1, 3.0]),
    "list of float32": (pa.array([[0.1], []], pa.list_(pa.float32())), [[0.1], []]),
    "struct of float32": (
        pa.array([{"x": 0.1}, None], pa.struct([("x", pa.float32())])),
        [{"x": 0.1}, None],
    ),
    "large integers": (pa.array([2**53 + 1, 2**64 - 1], pa.uint64()), [2**53 + 1, 2**64 - 1]),
    "number lists": (pa.array([[1, 2], None]), [[1, 2], None]),
    "dictionary": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    "nested": (pa.array([{"b": [{"c": "x"}]}, None]), [{"b": [{"c": "x"}]}, None]),
    "large text": (pa.array(["a", None], pa.large_string()), ["a", None]),
    "text view": (pa.array(["a", None], pa.string_view()), ["a", None]),
    "large list": (pa.array([["a"], None], pa.large_list(pa.string())), [["a"], None]),
    "map": (pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string())), [{"k": "v"}, {}]),
    "time in ns": (
        pa.array([datetime(2024, 1, 1, 12), None], pa.timestamp("ns")),
        [datetime(2024, 1, 1, 12), None],
    ),
    "past Python's years": (pa.array([2**50, 0], pa.timestamp("s")), [None, datetime(1970, 1, 1)]),
    "nothing": (pa.array([None, None]), [None, None]),
}


@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_columns_of_every_type_keep_their_values(tmp_path: Path, form: str, kind: str) -> None:
    array, values = SCALARS[kind]
    table, path = pa.table({"x": array}), tmp_path / f"a.{form}"
    if form == "parquet":
        if pa.types.is_string_view(array.type):
            pytest.skip("Parquet has no views")
        pq.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, str(path))
    assert [row["x"] for row in fields_of(path)] == values


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train.jsonl", "training/b.jsonl"]),
        ("test", ["test-00000-of-00001.jsonl"]),
        ("dev", ["valid.csv"]),
    ],
)
def test_a_folder_gives_the_files_of_the_split(tmp_path: Path, split: str, names: list[str]) -> None:
    (tmp_path / "training").mkdir()
    for name in ("train.jsonl", "training/b.jsonl", "test-00000-of-00001.jsonl"):
        (tmp_path / name).write_text(json.dumps({"file": name}))
    (tmp_path / "valid.csv").write_text("file,x\nvalid.csv,1\n")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert [row["file"] for row in fields_of(tmp_path, split=split)] == names
    assert len(fields_of(tmp_path, split="train+test")) == 3
    with pytest.raises(InputError, match=r"none of 'other'; set problems\.split"):
        fields_of(tmp_path, split="other")


def test_rows_below_a_named_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"meta": {"easy": ROWS, "hard": ROWS[:1]}, "more": [1]}))
    assert fields_of(path, reading={"rows": "meta.hard"}) == ROWS[:1]
    with pytest.raises(InputError, match=r"no key 'x' \(it has: easy, hard\); set problems\.reading\.rows"):
        fields_of(path, reading={"rows": "meta.x"})


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"id,name\n1,a\n2,b,c\n3,d\n", None, "3 cells where the table has 2 columns"),
        ("id,name\n1,a\n2,é\n3,d\n".encode("cp1252"), None, "set problems.reading.encoding"),
    ],
)
def test_a_record_that_does_not_fit_its_table_is_set_aside(
    tmp_path: Path, content: bytes, encoding: str | None, said: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    rows = list(read_rows(Problems(path=str(path))))
    assert [row.fields["id"] for row in rows if isinstance(row, Row)] == ["1", "3"]
    (bad,) = [row for row in rows if isinstance(row, BadRow)]
    assert said in bad.reason
    assert bad.place.endswith("line 3")


def test_an_encoding_that_is_named_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,name\n2,é\n".encode("cp1252"))
    assert fields_of(path, reading={"encoding": "cp1252"}) == [{"id": "2", "name": "é"}]


def _cut_array() -> bytes:
    return json.dumps(ROWS).encode()[:-30]


def _cut_zst() -> bytes:
    lines = "".join(json.dumps({"n": n, "text": str(n**50)}) + "\n" for n in range(5000))
    return as_zst(lines.encode())[:-5000]


@pytest.mark.parametrize(("name", "content"), [("a.json", _cut_array), ("a.jsonl.zst", _cut_zst)])
def test_a_file_that_breaks_off_says_so(tmp_path: Path, name: str, content: Callable[[], bytes]) -> None:
    (tmp_path / name).write_bytes(content())
    *rows, last = read_rows(Problems(path=str(tmp_path / name)))
    assert rows
    assert isinstance(last, BadRow)
    assert last.kind == "file breaks off"


def test_an_empty_file_and_an_empty_array_have_no_rows(tmp_path: Path) -> None:
    for name, content in {
        "a.jsonl": "",
        "a.json": "[]",
        "b.json": "\n",
        "a.csv": "",
        "b.csv": "id,x\n",
    }.items():
        (tmp_path / name).write_text(content)
        assert fields_of(tmp_path / name) == []
