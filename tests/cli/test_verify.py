"""The command: rows in, the same rows with outcome and reason out, in their order."""

import gzip
import io
import json

import pytest
from rich.console import Console

from drsft.bench.verifying.verify import bench_verify
from drsft.cli.verify import verify_file
from drsft.errors import InputError


def run(tmp_path, lines: list[str], **options: object) -> tuple[list[dict], str]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(line + "\n" for line in lines))
    output, errors = io.StringIO(), io.StringIO()
    verify_file(str(file), output=output, console=Console(file=errors, width=100), **options)
    return [json.loads(line) for line in output.getvalue().splitlines()], errors.getvalue()


def test_rows_keep_their_fields_and_their_order(tmp_path):
    rows = [
        {"id": n, "reference": str(n), "prediction": f"It is {n + n % 2}.", "extra": [n]} for n in range(700)
    ]
    judged, summary = run(tmp_path, [json.dumps(row) for row in rows])
    assert [row["id"] for row in judged] == list(range(700))
    assert all(row["outcome"] == ("wrong" if row["id"] % 2 else "correct") for row in judged)
    assert judged[5]["extra"] == [5]
    assert "700 judged" in summary


def test_kinds_mix_and_bad_rows_do_not_stop_the_others(tmp_path):
    lines = [
        '{"reference": "B", "prediction": "(B)", "kind": "choice"}',
        '{"reference": 3.5, "prediction": "3.50001", "kind": "numeric"}',
        "not json",
        '{"reference": "1"}',
        '{"reference": "1", "prediction": "1", "kind": "unheard of"}',
        '{"reference": "1", "prediction": "1", "truncated": true}',
        '{"reference": "1/2", "prediction": "\\\\boxed{0.5}"}',
    ]
    judged, _ = run(tmp_path, lines)
    assert [row["outcome"] for row in judged] == [
        "correct",
        "correct",
        "unjudged",
        "unjudged",
        "unjudged",
        "truncated",
        "correct",
    ]
    assert judged[3]["reason"] == "no field 'prediction'"


def test_invalid_utf8_comes_out_again(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"reference": "5", "prediction": "\xff 5"}\n')
    output = io.StringIO()
    verify_file(str(file), output=output, console=Console(file=io.StringIO()))
    assert json.loads(output.getvalue())["prediction"] == "\udcff 5"


def test_a_file_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match=r"/no/such/file.*no such file"):
        verify_file("/no/such/file", console=Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "array.json",
            json.dumps([{"reference": "1", "prediction": "1"}, {"reference": 2.50, "prediction": "2"}]),
        ),
        (
            "indented.json",
            json.dumps(
                [{"reference": "1", "prediction": "1"}, {"reference": 2.5, "prediction": "2"}], indent=2
            ),
        ),
        ("table.csv", "reference,prediction\n1,1\n2.5,2\n"),
        (
            "below.json",
            json.dumps(
                {"data": [{"reference": "1", "prediction": "1"}, {"reference": 2.5, "prediction": "2"}]}
            ),
        ),
    ],
)
def test_other_formats_are_judged_as_json_lines_are(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    output = io.StringIO()
    verify_file(str(tmp_path / name), output=output, console=Console(file=io.StringIO()))
    judged = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [row["outcome"] for row in judged] == ["correct", "wrong"]
    assert [float(row["reference"]) for row in judged] == [1, 2.5]


@pytest.mark.slow
def test_the_bench_compares_both_on_the_same_cases(tmp_path):
    cases = tmp_path / "cases.jsonl"
    rows = [
        {"reference": rf"\frac{{{n}}}{{7}}", "prediction": rf"\boxed{{{n}/7}}", "expected": True}
        for n in range(1, 30)
    ] + [{"reference": r"\frac{1}{2004!}", "prediction": r"\boxed{\frac{1}{2006!}}", "expected": False}]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench = bench_verify(cases, num_rounds=1)
    assert bench.ours[0].share == 1
    assert bench.peer[0].num_cases == 30
    assert bench.speedup > 1


@pytest.mark.slow
def test_the_bench_judges_each_row_by_its_kind_and_counts_each_file(tmp_path):
    choices = tmp_path / "choices.jsonl"
    question = "Three times six?\n(A) 9\n(B) 18\n(C) 36"
    rows = [
        {"reference": "B", "prediction": "So it is (B).", "expected": True},
        {"reference": "C", "prediction": "So it is (B).", "expected": False},
        {"reference": "C", "prediction": "So it is (B).", "expected": True},  # the label is wrong
    ]
    choices.write_text(
        "".join(json.dumps({**row, "kind": "choice", "question": question}) + "\n" for row in rows)
    )
    numbers = tmp_path / "numbers.jsonl.gz"
    with gzip.open(numbers, "wt") as lines:
        lines.write(json.dumps({"reference": "5", "prediction": "5", "expected": True}) + "\n")
    bench = bench_verify(choices, numbers, num_rounds=1)
    found = {one.name: (one.num_cases, one.num_false_accepts, one.num_false_rejects) for one in bench.ours}
    assert found == {"all": (4, 0, 1), "choices": (3, 0, 1), "numbers": (1, 0, 0)}
    assert [row["reference"] for row in bench.disagreements] == ["C"]


def test_an_explanation_says_what_was_read_from_where_and_how_it_compared(tmp_path):
    rows = [
        {"reference": "2 hours", "prediction": r"So \boxed{120\text{ minutes}}."},
        {"reference": "5", "prediction": "The answer is $x^2$."},
        {"reference": "B", "prediction": "(B)", "kind": "choice", "question": "Which?\nA. 1\nB. 2"},
        {"reference": "5", "prediction": "<think>5"},
    ]
    judged, _ = run(tmp_path, [json.dumps(row) for row in rows], with_explanation=True)
    found = [row["explanation"] for row in judged]
    assert found[0]["reference"] == {
        "place": "reference",
        "text": "2 hours",
        "type": "quantity",
        "read_as": ["2 hours"],
    }
    assert (found[0]["answer"]["place"], found[0]["answer"]["read_as"]) == ("box", ["120 minutes"])
    assert found[0]["compared"] == judged[0]["reason"] == "equal after parsing"
    assert (found[1]["answer"]["place"], found[1]["answer"]["type"]) == ("phrase", "expression")
    assert found[2]["answer"]["type"] == found[2]["reference"]["type"] == "letters"
    assert (found[3]["answer"], found[3]["compared"]) == (None, "unclosed thought")
