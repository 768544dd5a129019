"""`drsft bench intake`: the rows that it makes, and both sides on the same ones."""

import json
from pathlib import Path

import pytest

import drsft
from drsft.bench.intake.intake import bench_intake
from drsft.bench.intake.varied_rows import write_varied_rows
from drsft.errors import InputError

ROWS = [
    {"problem": "What is 1 + 1?", "solution": "1 + 1 = \\boxed{2}", "answer": "2"},
    {"problem": "What is \\frac{1}{2} + 3?", "solution": "So 7/2.", "answer": "\\frac{7}{2}"},
    {"problem": "How many are 12 eggs?", "solution": "12, of course.", "answer": 12},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_copies_are_other_problems_with_other_references(data: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.jsonl"
    write_varied_rows(made, [data], 3 * 20 + 1)
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    assert len(rows) == 61
    assert len({row["problem"] for row in rows[:60]}) == 60
    for number in range(3):
        copies = rows[number:60:3]
        assert len({row["solution"] for row in copies}) == len({row["answer"] for row in copies}) == 20
    assert {row["answer"] for row in rows[:3]} == {"2", "\\frac{7}{2}", "12"}, "the first copy is as it was"


def test_a_file_without_rows_of_that_kind_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("no JSON\n")
    with pytest.raises(InputError, match="give JSON lines of problem, solution and answer"):
        write_varied_rows(tmp_path / "made.jsonl", [tmp_path / "a.jsonl"], 10)


@pytest.mark.slow
def test_another_checkout_reads_the_same_problems(data: Path) -> None:
    own = Path(drsft.__file__).parent.parent
    (one,) = bench_intake([data], num_rows=50, model="embedded", max_model_len=512, peer=own, num_rounds=1)
    assert one.peer is not None
    assert (one.ours.num_read, one.peer.num_read) == (50, 50)
    assert one.ours.digest == one.peer.digest
    assert max(one.ours.memory.samples) > 10
