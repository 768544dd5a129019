"""Files as people have them give a configuration that loads and reads them, or one line with the fix."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drsft.config.configfile import load_config
from drsft.errors import DrsftError, InputError, ModelError
from drsft.intake.problems import Intake, read_problems
from drsft.intake.roles import Candidate, Role
from drsft.policy.prompts import model_location, target_prompter
from drsft.setup.found_columns import GivenColumns
from drsft.setup.machine import Machine
from drsft.setup.starter import Starter, Wanted, make_starter
from drsft.verify.choice.offered import options_of
from tests.setup.files import FILES, written

HERE = Machine(num_cpus=2, memory_mib=16_000)
REFUSED = {"programs": "--answer", "other_tests": "--solution", "alpaca": "--answer", "essays": "--question"}
KINDS = {
    "aqua": "choice",
    "choices_by_letter": "choice",
    "option_columns": "choice",
    "options_as_text": "choice",
    "mbpp": "code",
    "humaneval": "code",
    "gsm8k": "math",
    "maths": "math",
    "theorem_qa": "math",
    "messages": "math",
    "numbered_options": "choice",
    "numbered_endings": "choice",
    "options_from_one": "choice",
    "two_ways": "choice",
    "lists_in_cells": "choice",
    "table_without_names": "choice",
}


def refuse(role: Role, candidates: Sequence[Candidate]) -> str:
    raise InputError(f"cannot choose the {role} of {[one.column for one in candidates]}")


def wanted(path: Path, **given: str) -> Wanted:
    return Wanted(path=str(path), model="embedded", name="my-run", columns=GivenColumns(**given))


def started(name: str, folder: Path) -> Starter:
    return make_starter(wanted(written(name, folder)), refuse, HERE)


@pytest.mark.parametrize("name", [name for name in FILES if name not in REFUSED])
def test_a_file_as_people_have_it_gives_a_configuration_that_reads_it(name: str, tmp_path: Path) -> None:
    starter = started(name, tmp_path)
    file = tmp_path / "my-run.yaml"
    file.write_text(starter.text)
    config = load_config(file)
    assert config == starter.config
    assert config.problems.kind == KINDS.get(name, config.problems.kind)
    intake = Intake()
    trained = list(
        read_problems(
            config.problems,
            intake,
            prompter=target_prompter(config.target),
            max_model_len=config.target.max_model_len,
        )
    )
    held_out = [
        problem
        for benchmark in config.evaluate.benchmarks
        for problem in read_problems(benchmark.problems, Intake(), needs_demonstration=False)
    ]
    assert intake.quarantined == []
    assert held_out
    assert len(trained) + len(held_out) == 40
    assert not {one.whole_question for one in trained} & {one.whole_question for one in held_out}


@pytest.mark.parametrize(("name", "flag"), REFUSED.items())
def test_what_is_missing_is_one_line_that_names_the_flag(name: str, flag: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        started(name, tmp_path)
    assert flag in str(raised.value)
    assert "\n" not in str(raised.value)


def test_options_stand_under_their_letters_in_the_question(tmp_path: Path) -> None:
    asked = replace(wanted(written("option_columns", tmp_path)), model=model_location("embedded"))
    starter = make_starter(asked, refuse, HERE)
    first = next(read_problems(starter.config.problems.model_copy(update={"part": None}), Intake()))
    assert first.question == "What is 3 + 2?\nA. 5\nB. 6\nC. 7\nD. 0"
    assert "letter" in starter.config.target.prompts.plain


@pytest.mark.parametrize(
    ("name", "first", "letters"),
    [
        ("numbered_options", 0, "ABCD"),
        ("numbered_endings", 0, "ABC"),
        ("options_from_one", 1, "AB"),
        ("two_ways", 0, "AB"),
    ],
)
def test_numbers_of_options_are_read_as_their_letters(
    name: str, first: int, letters: str, tmp_path: Path
) -> None:
    config = started(name, tmp_path).config
    assert config.problems.options_from == first
    assert config.evaluate.benchmarks[0].problems.options_from == first
    problems = list(read_problems(config.problems.model_copy(update={"part": None}), Intake()))
    assert [one.reference for one in problems] == [letters[i % len(letters)] for i in range(40)]
    assert all(list(options_of(one.question)) == list(letters) for one in problems)


def test_numbers_that_could_count_from_0_or_1_are_asked_for_with_the_key(tmp_path: Path) -> None:
    file = tmp_path / "unclear.jsonl"
    rows = [{"question": f"Town {i}?", "choices": ["Rome", "Oslo", "Bonn"], "answer": 1} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"problems\.options_from"):
        make_starter(wanted(file), refuse, HERE)
    asked = replace(wanted(file), overrides=("problems.options_from=1",))
    assert make_starter(asked, refuse, HERE).config.problems.options_from == 1


def test_a_field_that_names_verifiers_is_the_kind_of_each_row(tmp_path: Path) -> None:
    config = started("kinds_that_mix", tmp_path).config
    problems = list(read_problems(config.problems, Intake()))
    assert {one.kind for one in problems} == {"numeric", "choice"}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("olympiad", "solution[0]"),
        ("preferences", "chosen"),
        ("plain", "solution"),
        ("several_solutions", "r1_solution_1"),
        ("solutions_as_objects", "solutions[0].solution"),
        ("solutions_as_texts_of_objects", "solutions[0].text"),
        ("generations", "generations[0]"),
        ("lines_of_a_solution", "{lines}"),
    ],
)
def test_a_solution_is_found_in_a_list_beside_a_worse_one_and_where_it_is_short(
    name: str, column: str, tmp_path: Path
) -> None:
    config = started(name, tmp_path).config
    assert config.problems.columns.demonstration == column
    assert {arm.data for arm in config.train.arms} == {"expert", "rewritten"}


@pytest.mark.parametrize("name", ["answers_as_json", "turns_of_text", "conversation_beside_its_question"])
def test_the_one_element_of_a_list_is_taken_and_a_conversation_for_its_solution(
    name: str, tmp_path: Path
) -> None:
    config = started(name, tmp_path).config
    first = next(read_problems(config.problems.model_copy(update={"part": None}), Intake()))
    assert first.question == "How much is 3 + 2?"
    assert first.reference == "5"


def test_rows_that_a_run_would_set_aside_are_told(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"problem": f"What is {i} + 1?", "answer": i + 1 if i % 4 else None} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    warning = make_starter(wanted(file), refuse, HERE).warning
    assert warning is not None
    assert warning.startswith("10 of 40 checked rows cannot be used, the first because of no reference")


def test_a_completion_beside_the_turns_of_its_prompt_is_the_solution(tmp_path: Path) -> None:
    config = started("prompt_and_completion", tmp_path).config
    first = next(read_problems(config.problems, Intake()))
    assert first.question.startswith("How much is")
    assert first.demonstration.startswith("It is $")
    assert {arm.data for arm in config.train.arms} == {"expert", "rewritten"}


def test_without_solutions_the_answer_is_the_hint_and_never_trained_on(tmp_path: Path) -> None:
    config = started("without_solutions", tmp_path).config
    assert config.rewrite.guided.hint == "answer"
    assert config.rewrite.fallback == "drop"
    assert {arm.data for arm in config.train.arms} == {"rewritten"}


def test_a_model_judges_what_no_verifier_can(tmp_path: Path) -> None:
    judge = "rewrite.verification.judge={model: m, url: http://host/v1}"
    asked = replace(wanted(written("alpaca", tmp_path)), kind="judge", overrides=(judge,))
    config = make_starter(asked, refuse, HERE).config
    assert config.problems.kind == "judge"
    assert config.problems.columns.reference == "output"


def test_overrides_are_written_into_the_file(tmp_path: Path) -> None:
    asked = replace(wanted(written("plain", tmp_path)), overrides=("train.seeds=[0, 1]", "problems.limit=7"))
    starter = make_starter(asked, refuse, HERE)
    file = tmp_path / "my-run.yaml"
    file.write_text(starter.text)
    assert load_config(file) == starter.config
    assert load_config(file).train.seeds == (0, 1)
    assert load_config(file).problems.limit == 7


@pytest.mark.parametrize("model", ["/no/such/model", "./none"])
def test_a_missing_model_is_told_before_the_data_is_read(model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        make_starter(replace(wanted(tmp_path / "none.jsonl"), model=model), refuse, HERE)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DrsftError, match="no such file"):
        make_starter(wanted(tmp_path / "none.jsonl"), refuse, HERE)


def test_letters_without_options_in_sight_are_refused_with_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    rows = [{"question": f"Which town is number {i}?", "answer": "ABCD"[i % 4]} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="--options"):
        make_starter(wanted(file), refuse, HERE)


def test_a_solution_of_any_language_and_an_answer_beside_its_steps_are_found(tmp_path: Path) -> None:
    columns = started("german", tmp_path).config.problems.columns
    assert (columns.question, columns.demonstration, columns.reference) == (
        "Fragestellung", "Lösungsweg", "Ergebnis",
    )  # fmt: skip
    columns = started("by_final", tmp_path).config.problems.columns
    assert (columns.question, columns.demonstration, columns.reference) == (
        "text", "{sol.steps}", "sol.final",
    )  # fmt: skip


def test_short_solutions_that_some_rows_lack_are_found_by_the_answers_within(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {
            "question": f"{n}+2?",
            "rationale": f"So {n} + 2 = {n + 2}." if n % 3 else None,
            "answer": str(n + 2),
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    starter = make_starter(wanted(path), refuse, HERE)
    assert starter.config.problems.columns.demonstration == "rationale"
    assert starter.warning is not None
    assert "14 of 40" in starter.warning
