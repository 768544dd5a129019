"""`drsft data`: what it prints is what a run would read, and what it would set aside."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drsft.cli import app
from drsft.config import Problems
from drsft.config.configfile import load_config
from drsft.errors import DrsftError, InputError
from drsft.intake.problems import Intake, read_problems

TABLE = """id,Body,Final Answer,Worked Solution
1,What is 1+1?,2,"We add.
It is 2"
2,What is 2+2?,007,It is 7
2,What is 2+2?,007,It is 7
3,,4,x
4,What is 3+4?,N/A,x
5,What is 3+9?
"""
COLUMNS = {"question": "Body", "reference": "Final Answer", "demonstration": "Worked Solution"}
GIVEN = [text for role, column in COLUMNS.items() for text in ("--columns", f"{role}={column}")]
GIVEN.append("problems.kind=math")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def as_json(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return found


def test_it_counts_what_a_run_would_read(table: Path) -> None:
    found, intake = as_json(table, *GIVEN), Intake()
    problems = list(read_problems(Problems.model_validate({"path": str(table), "columns": COLUMNS}), intake))
    assert (found["num_read"], found["num_problems"]) == (intake.num_read, len(problems)) == (6, 2)
    assert found["num_duplicates"] == intake.num_duplicates == 1
    aside = {one["reason"]: one["num_rows"] for one in found["set_aside"]}
    assert aside == intake.reasons
    assert [one["place"].rpartition(" ")[2] for one in found["set_aside"]] == ["6", "7", "8"]
    assert found["first"]["question"] == problems[0].question
    assert found["taken"]["question"] == {"Body": 5}
    assert found["turn"] is None


def test_fields_and_lengths_are_those_of_the_rows(table: Path) -> None:
    found = as_json(table, *GIVEN)
    body = next(one for one in found["fields"] if one["path"] == "Body")
    assert (body["num_rows"], body["num_filled"], body["num_distinct"]) == (5, 4, 3)
    question = next(one for one in found["lengths"] if one["part"] == "question")
    assert question["chars"] == {"median": 12, "p95": 12, "max": 12}
    assert question["tokens"] is None


def test_columns_of_other_names_are_guessed_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"Question": "What is 1+1?", "Answer": 2, "rationale": "We add."}))
    found = as_json(path)
    assert found["num_problems"] == 1
    roles = {"columns.question", "columns.reference", "columns.demonstration"}
    assert roles <= set(found["guessed"]) <= {*roles, "kind"}
    assert "problems.columns.question is 'Question'" in found["hints"][0]


def write_choices(path: Path) -> None:
    rows = [{"problem": f"{n}+2?", "choices": [str(n + 1), str(n + 2)], "answer": "B"} for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_without_a_configuration_it_reads_what_drsft_init_would_write(tmp_path: Path) -> None:
    path, config = tmp_path / "a.jsonl", tmp_path / "my-run.yaml"
    write_choices(path)
    found = as_json(path)
    assert found["first"]["question"] == "0+2?\nA. 1\nB. 2"
    assert found["kinds"] == {"choice": 5}
    assert any("no solutions found" in hint for hint in found["hints"])
    arguments = ["init", str(path), "--model", "embedded", "-o", str(config), "--json"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    written = load_config(config).problems.columns
    assert set(found["taken"]["reference"]) == {written.reference}
    assert as_json(path, "--config", config)["first"] == found["first"]


def test_what_drsft_init_refuses_is_shown_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"w": n, "h": n + 1}) + "\n" for n in range(5)))
    result = CliRunner().invoke(app, ["data", str(path)])
    assert "fields of the first 5 rows" in result.stdout
    assert "drsft init: no field looks like a question" in result.stdout
    assert isinstance(result.exception, InputError)


def test_options_that_a_configuration_does_not_show_are_said(tmp_path: Path) -> None:
    path, config = tmp_path / "a.jsonl", tmp_path / "my-run.yaml"
    write_choices(path)
    config.write_text(
        f"name: x\nproblems: {{path: {path}, kind: exact, columns: {{demonstration: answer}}}}\n"
        "target: {model: embedded, max_model_len: 400}\n"
        "rewrite: {self_align: {max_tokens: 16}, guided: {max_tokens: 16}}\n"
    )
    hints = as_json(path, "--config", config)["hints"]
    assert any(
        r'problems.columns.question: "{problem}\n{choices}" and problems.kind: choice' in hint
        for hint in hints
    )
    shown = as_json(path, "problems.kind=choice", r'problems.columns.question="{problem}\n{choices}"')
    assert shown["first"]["question"] == "0+2?\nA. 1\nB. 2"
    assert shown["options"] is None


def test_a_model_adds_tokens_and_the_first_turn(table: Path) -> None:
    found = as_json(table, *GIVEN, "--model", "embedded")
    both = next(one for one in found["lengths"] if one["part"] == "both")
    assert both["tokens"]["max"] >= both["tokens"]["median"] > 10
    assert "What is 1+1?" in found["turn"]["prompt"]
    assert found["turn"]["completion"].startswith("We add.")


def test_a_configuration_sets_columns_and_length(table: Path, tmp_path: Path) -> None:
    config = tmp_path / "my-run.yaml"
    columns = json.dumps(COLUMNS)
    config.write_text(
        f"name: x\nproblems: {{path: elsewhere, columns: {columns}}}\n"
        "target: {model: embedded, max_model_len: 40}\n"
        "rewrite: {self_align: {max_tokens: 16}, guided: {max_tokens: 16}}\n"
    )
    with pytest.raises(DrsftError, match="too long for the model"):
        run(table, "--config", config, "target.max_model_len=20", "--json")
    found = as_json(table, "--config", config, "target.max_model_len=400")
    assert found["num_problems"] == 2


def test_tables_hold_the_same_and_only_lines_that_can_be_printed(table: Path) -> None:
    text = run(table, *GIVEN)
    assert "6 rows read, 2 problems (2 math), 1 exact duplicates, 3 set aside" in text
    for word in ("Worked Solution", "empty question", "line 7: N/A", r"We add.\nIt is 2"):
        assert word in text
    assert run(table, *GIVEN, "--rows", 2).startswith(f"{table}: 2 rows read (only the first)")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--columns", "question"], "write ROLE=COLUMN"),
        (["--columns", "nothing=x"], "nothing"),
        (["problems.split"], "problems.split"),
        (["--columns", "question=Bdy", *GIVEN[2:]], r"field 'Bdy' is missing \(it has: id, Body"),
    ],
)
def test_a_wrong_option_is_one_line(table: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(DrsftError, match=said) as caught:
        run(table, *arguments)
    assert "\n" not in str(caught.value)
