import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drsft.config import Columns, Problems
from drsft.errors import InputError
from drsft.intake.problems import Intake, read_problems
from drsft.records import Problem

GOOD = {"problem": "1+1?", "solution": "It is \\boxed{2}", "answer": "2"}


def read(path: Path | str, **options: object) -> tuple[list[Problem], Intake]:
    intake = Intake()
    config = Problems(path=str(path), **options)  # type: ignore[arg-type]
    return list(read_problems(config, intake)), intake


def write_lines(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_every_format_gives_the_same_problems(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [GOOD, {**GOOD, "problem": "2+2?", "answer": 4}]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([{**row, "answer": str(row["answer"])} for row in rows]), path)
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    problems, intake = read(path)
    assert [(one.question, one.reference) for one in problems] == [("1+1?", "2"), ("2+2?", "4")]
    assert intake.num_read == 2
    assert read(tmp_path)[0] == problems, "a folder is its files"


def test_ids_come_from_content_and_duplicates_are_counted(tmp_path: Path) -> None:
    other = {**GOOD, "solution": "other words"}
    path = write_lines(tmp_path / "a.jsonl", GOOD, GOOD, other, {**GOOD, "answer": "3"})
    problems, intake = read(path)
    assert len(problems) == 2
    assert intake.num_duplicates == 1
    assert intake.reasons == {"another solution to an earlier problem": 1}
    assert problems[0].demonstration == GOOD["solution"], "the first one stays"
    moved = write_lines(tmp_path / "b.jsonl", {**GOOD, "answer": "3"}, GOOD)
    assert {one.problem_id for one in read(moved)[0]} == {one.problem_id for one in problems}


def test_hidden_copies_are_no_data_and_case_is_no_kind(tmp_path: Path) -> None:
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/a-checkpoint.jsonl", "._a.jsonl", "A.JSONL"):
        write_lines(tmp_path / name, GOOD)
    problems, intake = read(tmp_path)
    assert (len(problems), intake.num_read) == (1, 1)
    assert read(tmp_path / "A.JSONL")[0] == problems


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.doc", "Some words.\nSome more", "its format is not supported; convert it to one of"),
        ("folder/a.doc", "problem,answer\n1+1?,2\n", "it has: .doc"),
        ("gone.csv", None, "no such file"),
        ("a.xlsx", "PK\x03\x04", "save it as CSV"),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.json", "<!DOCTYPE html><p>404</p>", "download the raw file"),
        ("a.json", json.dumps({"easy": [GOOD], "hard": [GOOD]}), "set problems.reading.rows"),
        ("a.json", json.dumps({"dev": [GOOD], "test": [GOOD]}), "set problems.split"),
    ],
)
def test_files_of_another_kind_are_one_line(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        read(path.parent if "/" in name else path)
    assert "\n" not in str(caught.value)


def test_wrong_rows_are_set_aside_with_place_and_reason(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        "{broken",
        [1, 2],
        {"problem": "x"},
        {**GOOD, "problem": "  "},
        {**GOOD, "answer": None},
        {**GOOD, "answer": "\\boxed{}"},
        {**GOOD, "answer": "N/A"},
        {**GOOD, "answer": float("nan")},
        '{"problem": "half \\ud800 of it", "solution": "s", "answer": "2"}',
        GOOD,
    )
    problems, intake = read(path)
    assert len(problems) == 1
    assert [(row.place.rsplit(" ", 1)[1], row.reason) for row in intake.quarantined] == [
        ("1", "unreadable row"),
        ("2", "unreadable row"),
        ("3", "no reference"),
        ("4", "empty question"),
        ("5", "no reference"),
        ("6", "no parsable reference answer"),
        ("7", "no parsable reference answer"),
        ("8", "no reference"),
        ("9", "not valid Unicode"),
    ]
    assert intake.num_read == len(problems) + len(intake.quarantined) + intake.num_duplicates


def test_a_wholly_wrong_file_names_file_line_and_field(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"q": "1", "a": "2"}, {"q": "1", "a": "2"})
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{path} line 1" in message
    assert "'problem'" in message
    assert "columns.question" in message


def test_a_column_may_have_several_names(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"question": "1+1?", "answer": "so it is\n#### 1,002"})
    columns = Columns(
        question=("problem", "question"), demonstration=("solution", "answer"), reference="answer"
    )
    problems, _ = read(path, columns=columns)
    assert problems[0].demonstration.startswith("so it is")
    assert problems[0].reference == "1,002"


def test_a_file_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    lines = "".join(json.dumps({**GOOD, "problem": f"{n}+1?"}) + "\n" for n in range(2000)).encode()
    path.write_bytes(gzip.compress(lines)[:-2000])
    problems, intake = read(path)
    assert problems
    assert intake.reasons == {"file breaks off": 1}


@pytest.mark.parametrize("path", ["nothing.jsonl", "./nowhere", "/no/such/folder"])
def test_a_missing_path_is_named(path: str) -> None:
    with pytest.raises(InputError, match=path):
        read(path)


def test_an_empty_folder_and_a_broken_parquet_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no file of a supported format"):
        read(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match=r"a\.parquet"):
        read(tmp_path / "a.parquet")


def test_a_part_that_holds_nothing_names_its_key(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"problem": "1 + 1?", "solution": "2", "answer": "2"})
    parts = [Problems(path=str(path), part=part) for part in ("0-50", "50-100")]
    (empty,) = [one for one in parts if not one.holds("1 + 1?")]
    with pytest.raises(InputError, match=rf"problems\.part '{empty.part}' holds none of the 1 problems"):
        list(read_problems(empty, Intake()))


def test_limit_counts_usable_problems(tmp_path: Path) -> None:
    rows = [{**GOOD, "problem": f"{n}+1?"} for n in range(9)]
    assert len(read(write_lines(tmp_path / "a.jsonl", "{", *rows), limit=4)[0]) == 4


def test_a_row_that_asks_for_a_verifier_nobody_has_is_set_aside(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, "kind": "maths"}, {**GOOD, "kind": "numeric"})
    problems, intake = read(path, columns=Columns(kind="kind"))
    assert [problem.kind for problem in problems] == ["numeric"]
    assert intake.reasons == {"unknown verifier kind": 1}
    assert "maths" in intake.quarantined[0].detail


def test_kinds_that_nothing_judges_are_set_aside(tmp_path: Path) -> None:
    others = [{**GOOD, "problem": f"{kind}?", "kind": kind} for kind in ("judge", "mine")]
    path = write_lines(tmp_path / "a.jsonl", GOOD, *others)
    assert read(path, columns=Columns(kind="kind"))[1].reasons == {"unknown verifier kind": 2}
    config, intake = Problems(path=str(path), columns=Columns(kind="kind")), Intake()
    problems = read_problems(config, intake, kinds={"math", "judge", "mine"})
    assert [problem.kind for problem in problems] == ["math", "judge", "mine"]


@pytest.mark.parametrize(
    ("row", "reason", "proposed"),
    [
        (
            {"answer": "We count the boys and then the girls and find that no class can be that large."},
            "prose",
            "judge",
        ),
        ({"answer": "1" + "+x" * 2_500}, "longer than", "judge"),
        (
            {"answer": "the third", "verifier": "choice", "problem": "Which?\nA. x\nB. y"},
            "neither a letter nor an option",
            "exact",
        ),
    ],
)
def test_a_reference_that_no_answer_can_meet_is_told_with_a_kind_that_could(tmp_path, row, reason, proposed):
    problems, intake = read(
        write_lines(tmp_path / "a.jsonl", {**GOOD, **row}, GOOD), columns={"kind": "verifier"}
    )
    assert len(problems) == 1
    (quarantined,) = intake.quarantined
    assert quarantined.reason == "reference cannot be met"
    assert reason in quarantined.detail
    assert f"kind '{proposed}'" in quarantined.detail


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        *(
            ("numeric", text)
            for text in ("True", "[1, 2.5]", "(3, 4)", "48.2 kJ/mol", "-12 V", "2 hours 45 minutes")
        ),
        *(
            ("math", text)
            for text in ("9 (apples)", "<", "①③", "4:35 p.m.", "No solution", "['1994', '1997']")
        ),
        *(("choice", text) for text in ("K", "A, C", "BD")),
    ],
)
def test_references_of_every_type_are_usable(tmp_path, kind, reference):
    problems, intake = read(
        write_lines(tmp_path / "a.jsonl", {**GOOD, "answer": reference, "verifier": kind}),
        columns={"kind": "verifier"},
    )
    assert len(problems) == 1, intake.quarantined
