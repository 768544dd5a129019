"""`drsft init`: the configuration that it writes is read by the other commands as it stands."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from drsft.cli import app
from drsft.config.configfile import load_config
from drsft.errors import ConfigError, DrsftError

SUMS = [(3 + i, 2 + 7 * i % 11) for i in range(30)]
ROWS: list[dict[str, Any]] = [
    {"problem": f"What is {a} plus {b}?", "solution": f"{a} + {b} = {a + b}", "answer": a + b}
    for a, b in SUMS
]


def invoked(*arguments: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_table(separator: str, encoding: str, names: tuple[str, ...]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerows([names] * bool(names))
            writer.writerows(row.values() for row in ROWS)

    return write


def as_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_one_file_for_each(path: Path) -> None:
    for number, row in enumerate(ROWS):
        file = path / ("test" if number % 5 == 0 else "train") / "sums" / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row, indent=2))


SHAPES: dict[str, Callable[[Path], None]] = {
    "comma.csv": as_table(",", "utf-8", ("Problem", "Solution", "Answer")),
    "excel.csv": as_table(";", "utf-8-sig", ("Aufgabe", "Lösung", "Antwort")),
    "western.csv": as_table(";", "cp1252", ("Aufgabe", "Lösung", "Antwort")),
    "form.csv": as_table(
        ",", "utf-8", ("Question text (as shown to students)", "Full worked solution", "Final answer?")
    ),
    "wide.tsv": as_table("\t", "utf-16", ("question", "worked_solution", "final answer")),
    "lines.txt": as_lines,
    "array.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)) and None,
    "below.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS})) and None,
    "by-id.json": lambda path: (
        path.write_text(json.dumps({f"q{i}": row for i, row in enumerate(ROWS)})) and None
    ),
    "folder": as_one_file_for_each,
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_init_writes_is_read_by_drsft_data_as_it_stands(name: str, tmp_path: Path) -> None:
    file, config = tmp_path / name, tmp_path / "my-run.yaml"
    SHAPES[name](file)
    said = invoked("init", file, "--model", "embedded", "-o", config).stdout
    assert said.splitlines()[-1] == f"{config} is written. Next: drsft run {config}"
    found = json.loads(invoked("data", file, "--config", config, "--json").stdout)
    held_out = load_config(config).evaluate.benchmarks[0].problems
    trained = (
        24
        if name == "folder"
        else 30
        - json.loads(
            invoked("data", file, "--config", config, "--json", f"problems.part={held_out.part}").stdout
        )["num_problems"]
    )
    assert found["num_problems"] == trained
    assert found["set_aside"] == []
    first = found["first"]
    assert first["question"].startswith("What is ")
    assert first["demonstration"].endswith(f"= {first['reference']}")


def test_choices_are_printed_as_json_with_their_reasons(tmp_path: Path) -> None:
    as_lines(file := tmp_path / "rows.jsonl")
    config = tmp_path / "my-run.yaml"
    told = json.loads(invoked("init", file, "--model", "embedded", "-o", config, "--json").stdout)
    assert told["next"] == f"drsft run {config}"
    chosen = {one["key"]: one["value"] for one in told["choices"]}
    assert chosen["problems.kind"] == load_config(config).problems.kind == "math"
    assert all(one["reason"] for one in told["choices"])


def test_of_two_fields_that_fit_the_flag_is_named_and_yes_takes_the_likeliest(tmp_path: Path) -> None:
    rows = [{"one": f"What is {a} + {b}?", "two": f"What is {b} + {a}?", "answer": a + b} for a, b in SUMS]
    file, config = tmp_path / "rows.json", tmp_path / "my-run.yaml"
    file.write_text(json.dumps(rows))
    with pytest.raises(DrsftError, match="--question FIELD") as raised:
        invoked("init", file, "--model", "embedded", "-o", config)
    assert "\n" not in str(raised.value)
    assert not config.exists()
    invoked("init", file, "--model", "embedded", "-o", config, "--yes")
    assert load_config(config).problems.columns.question == "one"


def test_a_file_that_exists_is_overwritten_only_with_force(tmp_path: Path) -> None:
    as_lines(file := tmp_path / "rows.jsonl")
    config = tmp_path / "my-run.yaml"
    config.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        invoked("init", file, "--model", "embedded", "-o", config)
    assert config.read_text() == "mine"
    invoked("init", file, "--model", "embedded", "-o", config, "--force")
    assert load_config(config).name == "my-run"
