"""Files of problems in the shapes that people have them, written into a folder."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NUM = 40
Rows = list[dict[str, Any]]


def _sums() -> list[tuple[int, int]]:
    return [(3 + i, 2 + 7 * i % 11) for i in range(NUM)]


def gsm8k() -> Rows:
    return [
        {
            "question": f"Ann has {a} pens and buys {b}. How many?",
            "answer": f"So {a + b}.\n#### {a + b}",
        }
        for a, b in _sums()
    ]


def maths() -> Rows:
    return [
        {
            "problem": f"Simplify $\\frac{{{a}}}{{{2 * a + b}}} + x^{{{b}}}$ for $x=0$, case {i}.",
            "level": "Level 2",
            "type": "Algebra",
            "solution": f"With $x=0$ we get $\\boxed{{\\frac{{{a}}}{{{2 * a + b}}}}}$.",
        }
        for i, (a, b) in enumerate(_sums(), start=1)
    ]


def aqua() -> Rows:
    return [
        {
            "question": f"What is {a} times {b + 1}?",
            "options": [f"A){a}", f"B){a * (b + 1)}", f"C){a + b + 900}", f"D){a + 1000}", "E)None of these"],
            "rationale": f"{a} * {b + 1} = {a * (b + 1)}, so the answer is B.",
            "correct": "B",
        }
        for a, b in _sums()
    ]


def choices_by_letter() -> Rows:
    return [
        {
            "question": f"Which number follows {a}{b}?",
            "choices": {"label": ["A", "B", "C", "D"], "text": [str(a + 700), f"{a}{b + 1}", "none", str(b)]},
            "answerKey": "B",
        }
        for a, b in _sums()
    ]


def option_columns() -> Rows:
    return [
        {"Question": f"What is {a} + {b}?", "A": a + b, "B": a + b + 1, "C": a + b + 2, "D": 0, "Answer": "A"}
        for a, b in _sums()
    ]


def numbered_options() -> Rows:
    return [
        {
            "question": f"Which town is number {i}?",
            "choices": ["Rome", "Oslo", "Bonn", "Kyiv"],
            "answer": i % 4,
        }
        for i in range(NUM)
    ]


def numbered_endings() -> Rows:
    return [
        {
            "ctx": f"A man with {a} eggs",
            "endings": [f"eats {b}.", f"sells {a + b}.", "sings."],
            "label": str(i % 3),
        }
        for i, (a, b) in enumerate(_sums())
    ]


def options_from_one() -> Rows:
    return [
        {
            "question": f"Which is larger, {a} or {100 + b}?",
            "option1": a,
            "option2": 100 + b,
            "answer": 1 + i % 2,
        }
        for i, (a, b) in enumerate(_sums())
    ]


def two_ways() -> Rows:
    return [
        {
            "goal": f"How do you carry {a} eggs?",
            "sol1": f"In {b} cartons.",
            "sol2": "In a net.",
            "label": i % 2,
        }
        for i, (a, b) in enumerate(_sums())
    ]


def table_without_names() -> Rows:
    return [
        {"": f"What is {a} + {b}?", "a": a, "b": a + b, "c": 0, "l": "B" if i % 2 else "C"}
        for i, (a, b) in enumerate(_sums())
    ]


def lists_in_cells() -> Rows:
    return [
        {"question": f"What is {a} + {b}?", "choices": str([str(a + b + 1), str(a + b)]), "answer": "B"}
        for a, b in _sums()
    ]


def kinds_that_mix() -> Rows:
    return [
        {
            "question": f"What is {a} + {b}?" + ("" if i % 2 else f"\nA. {a + b}\nB. 0"),
            "solution": f"{a} + {b} = {a + b}.",
            "answer": str(a + b) if i % 2 else "A",
            "kind": "numeric" if i % 2 else "choice",
        }
        for i, (a, b) in enumerate(_sums())
    ]


def preferences() -> Rows:
    return [
        {
            "prompt": f"How much is {a} + {b}?",
            "chosen": f"We add the numbers {a} and {b}, and get {a + b} in the end. The answer is {a + b}.",
            "rejected": f"It may be {a}.",
        }
        for a, b in _sums()
    ]


def programs() -> Rows:
    return [
        {
            "question": f"Read a number and add {a} to it.",
            "solutions": json.dumps([f"print(int(input()) + {a})"]),
            "input_output": json.dumps({"inputs": ["1"], "outputs": [str(a + 1)]}),
        }
        for a, _ in _sums()
    ]


def olympiad() -> Rows:
    return [
        {
            "context": None,
            "question": f"How much is {a} + {b}?",
            "solution": [f"The sum of {a} and {b}, by counting on our fingers, is {a + b}.", "Add them."],
            "final_answer": [str(a + b)],
        }
        for a, b in _sums()
    ]


def several_solutions() -> Rows:
    begins = "We look at both numbers, add the smaller one to the larger one, and see that the sum is"
    return [
        {
            "question": f"How much is {a} + {b}?",
            "final_answer": str(a + b),
            "topic": "Sums",
            "r1_solution_1": f"{begins} $\\boxed{{{a + b}}}$.",
            "r1_solution_2": f"{begins} surely $\\boxed{{{a + b}}}$.",
        }
        for a, b in _sums()
    ]


def solutions_as_objects() -> Rows:
    return [
        {
            "problem": row["question"],
            "solutions": [
                {"model": "m", "solution": row["r1_solution_1"], "is_correct": True},
                {"model": "n", "solution": row["r1_solution_2"], "is_correct": True},
            ],
            "answer": row["final_answer"],
        }
        for row in several_solutions()
    ]


def solutions_as_texts_of_objects() -> Rows:
    return [
        {
            **row,
            "solutions": [{"id": i, "text": one["solution"]} for i, one in enumerate(row["solutions"])],
        }
        for row in solutions_as_objects()
    ]


def generations() -> Rows:
    return [
        {
            "problem": row["question"],
            "generations": [row["r1_solution_1"], row["r1_solution_2"]],
            "answer": row["final_answer"],
        }
        for row in several_solutions()
    ]


def lines_of_a_solution() -> Rows:
    return [
        {
            "problem": row["question"],
            "lines": [
                "We look at both numbers, and see which is the larger one.",
                row["r1_solution_1"],
            ],
            "answer": row["final_answer"],
        }
        for row in several_solutions()
    ]


def conversation_beside_its_question() -> Rows:
    return [{**row, "question": row["conversations"][0]["value"], "source": "sums"} for row in share_gpt()]


def answers_as_json() -> Rows:
    return [
        {**row, "reward_model": {"ground_truth": json.dumps([row["reward_model"]["ground_truth"]])}}
        for row in asked_by_turns()
    ]


def turns_of_text() -> Rows:
    return [
        {"turns": [f"How much is {a} + {b}?"], "ground_truth": str(a + b), "task": "sums"} for a, b in _sums()
    ]


def other_tests() -> Rows:
    return [
        {
            "question": f"Write a function add{i} that adds {a}.",
            "solution": f"def add{i}(x):\n    return x + {a}",
            "test": f"from solution import add{i}\n\ndef test_it():\n    assert add{i}(1) == {a + 1}\n",
        }
        for i, (a, _) in enumerate(_sums())
    ]


def prompt_and_completion() -> Rows:
    return [
        {
            "prompt": [{"role": "user", "content": f"How much is {a} + {b}?"}],
            "completion": [{"role": "assistant", "content": f"It is $\\boxed{{{a + b}}}$."}],
        }
        for a, b in _sums()
    ]


def asked_by_turns() -> Rows:
    return [
        {
            "prompt": [{"role": "user", "content": f"How much is {a} + {b}?"}],
            "reward_model": {"style": "rule", "ground_truth": str(a + b)},
        }
        for a, b in _sums()
    ]


def options_as_text() -> Rows:
    return [
        {"problem": f"What is {a} + {b}?", "options": f"a ) {a + 90} , b ) {a + b} , c ) 1", "correct": "b"}
        for a, b in _sums()
    ]


def svamp() -> Rows:
    return [
        {
            "ID": f"chal-{i}",
            "Body": f"There are {a} red and {b} blue birds.",
            "Question": "How many birds are there in all?",
            "Equation": f"( {a} + {b} )",
            "Answer": float(a + b),
            "Type": "Addition",
        }
        for i, (a, b) in enumerate(_sums())
    ]


def theorem_qa() -> Rows:
    values = [True, [1, 2, 3], 2.5, 7, False, [0.5, 4]]
    return [
        {"Question": f"Theorem {i}: what holds of case {i}?", "Answer": values[i % 6], "Picture": None}
        for i in range(NUM)
    ]


def mbpp() -> Rows:
    return [
        {
            "task_id": i,
            "text": f"Write a function f{i} that adds {a} to its argument.",
            "code": f"def f{i}(x):\n    return x + {a}",
            "test_list": [f"assert f{i}(1) == {a + 1}", f"assert f{i}(0) == {a}"],
            "test_setup_code": "",
        }
        for i, (a, _) in enumerate(_sums())
    ]


def humaneval() -> Rows:
    return [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": f'def f{i}(x: int) -> int:\n    """Add {a} to x."""\n',
            "canonical_solution": f"    return x + {a}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {a + 1}\n",
            "entry_point": f"f{i}",
        }
        for i, (a, _) in enumerate(_sums())
    ]


def plain() -> Rows:
    return [
        {"id": i, "problem": f"What is {a} plus {b}?", "solution": f"{a} + {b} = {a + b}", "answer": a + b}
        for i, (a, b) in enumerate(_sums())
    ]


def without_solutions() -> Rows:
    return [{"prompt": f"Compute {a} + {b}.", "target": str(a + b)} for a, b in _sums()]


def nested() -> Rows:
    return [
        {
            "data_source": "sums",
            "task": {"question": f"How much is {a} and {b}?"},
            "reward_model": {"style": "rule", "ground_truth": str(a + b)},
            "extra_info": {
                "solution": f"Adding {a} and {b} step by step gives {a + b}, so the answer is {a + b}."
            },
        }
        for a, b in _sums()
    ]


def messages() -> Rows:
    return [
        {
            "messages": [
                {"role": "system", "content": "You are careful."},
                {"role": "user", "content": f"How much is {a} + {b}?"},
                {"role": "assistant", "content": f"It is $\\boxed{{{a + b}}}$."},
            ]
        }
        for a, b in _sums()
    ]


def share_gpt() -> Rows:
    return [
        {
            "id": str(i),
            "conversations": [
                {"from": "human", "value": f"How much is {a} + {b}?"},
                {"from": "gpt", "value": f"{a} + {b} = {a + b}. The answer is {a + b}."},
            ],
        }
        for i, (a, b) in enumerate(_sums())
    ]


def alpaca() -> Rows:
    return [
        {
            "instruction": f"Describe colour {i} of the list.",
            "input": "",
            "output": "It is warm and bright, and people who see it think of the sun late. " * 2,
        }
        for i in range(NUM)
    ]


def alpaca_maths() -> Rows:
    return [
        {"instruction": "Add the numbers.", "input": f"{a} and {b}", "output": f"Their sum: #### {a + b}"}
        for a, b in _sums()
    ]


def labels() -> Rows:
    names = ["entailment", "neutral", "contradiction"]
    return [
        {"question": f"Does sentence {i} follow from its premise?", "label": names[i % 3]} for i in range(NUM)
    ]


def physics() -> Rows:
    return [
        {
            "question": f"A car drives {a * 10} m in {b + 2} s. How fast is it?",
            "answer": f"{a * 10 / (b + 2):.2f} m/s",
        }
        for a, b in _sums()
    ]


def essays() -> Rows:
    return [{"title": f"Essay {i}", "words": "many words " * 30} for i in range(NUM)]


def _json_lines(rows: Rows, path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _json_array(rows: Rows, path: Path) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps(rows))
    return path


def _below_a_key(rows: Rows, path: Path) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps({"version": "1", "data": rows}))
    return path


def _parquet(rows: Rows, path: Path) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _table(separator: str, suffix: str, *, header: bool = True) -> Callable[[Rows, Path], Path]:
    def write(rows: Rows, path: Path) -> Path:
        path = path.with_suffix(suffix)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
            if header:
                writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def german() -> Rows:
    return [
        {
            "Nr.": i,
            "Fragestellung": f"Anna hat {a} Äpfel; sie kauft {b} dazu.\nWie viele hat sie?",
            "Lösungsweg": f"Zuerst sind es {a} Äpfel, dann kommen {b} dazu, also sind es nun {a + b}.",
            "Ergebnis": f"{a + b},5",
        }
        for i, (a, b) in enumerate(_sums())
    ]


def by_final() -> Rows:
    """The solution is a list of steps, and an answer lies beside it."""
    return [
        {
            "text": f"Ann has {a} pens and buys {b}. How many?",
            "sol": {
                "steps": [f"First there are {a} pens, and {b} more are bought.", f"That makes {a + b}."],
                "final": a + b,
            },
        }
        for a, b in _sums()
    ]


def _excel(rows: Rows, path: Path) -> Path:
    """As Excel writes CSV where decimals have commas: semicolons, and a mark before the first name."""
    written = _table(";", ".csv")(rows, path)
    written.write_bytes(written.read_bytes().decode().encode("utf-8-sig"))
    return written


def _by_id(rows: Rows, path: Path) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps({f"q{number}": row for number, row in enumerate(rows)}))
    return path


def _splits(rows: Rows, path: Path) -> Path:
    path.mkdir()
    _json_lines(rows[:30], path / "train")
    _json_lines(rows[30:], path / "test")
    return path


FILES: Mapping[str, tuple[Callable[[], Rows], Callable[[Rows, Path], Path]]] = {
    "gsm8k": (gsm8k, _json_lines),
    "maths": (maths, _json_array),
    "aqua": (aqua, _json_lines),
    "choices_by_letter": (choices_by_letter, _parquet),
    "option_columns": (option_columns, _table(",", ".csv")),
    "options_as_text": (options_as_text, _json_lines),
    "svamp": (svamp, _json_array),
    "theorem_qa": (theorem_qa, _json_array),
    "mbpp": (mbpp, _json_lines),
    "humaneval": (humaneval, _json_lines),
    "plain": (plain, _table(",", ".csv")),
    "tabs": (plain, _table("\t", ".tsv")),
    "without_solutions": (without_solutions, _table(";", ".csv")),
    "nested": (nested, _below_a_key),
    "messages": (messages, _json_lines),
    "share_gpt": (share_gpt, _json_array),
    "alpaca_maths": (alpaca_maths, _json_array),
    "parquet": (plain, _parquet),
    "splits": (gsm8k, _splits),
    "labels": (labels, _json_lines),
    "physics": (physics, _table(",", ".csv")),
    "numbered_options": (numbered_options, _json_lines),
    "numbered_endings": (numbered_endings, _json_lines),
    "options_from_one": (options_from_one, _table(",", ".csv")),
    "two_ways": (two_ways, _json_lines),
    "table_without_names": (table_without_names, _table(",", ".csv", header=False)),
    "lists_in_cells": (lists_in_cells, _table(",", ".csv")),
    "kinds_that_mix": (kinds_that_mix, _json_lines),
    "preferences": (preferences, _json_lines),
    "several_solutions": (several_solutions, _parquet),
    "solutions_as_objects": (solutions_as_objects, _parquet),
    "solutions_as_texts_of_objects": (solutions_as_texts_of_objects, _json_lines),
    "generations": (generations, _parquet),
    "lines_of_a_solution": (lines_of_a_solution, _json_lines),
    "conversation_beside_its_question": (conversation_beside_its_question, _json_lines),
    "answers_as_json": (answers_as_json, _parquet),
    "turns_of_text": (turns_of_text, _parquet),
    "other_tests": (other_tests, _json_lines),
    "programs": (programs, _json_lines),
    "olympiad": (olympiad, _json_array),
    "prompt_and_completion": (prompt_and_completion, _json_lines),
    "asked_by_turns": (asked_by_turns, _parquet),
    "german": (german, _excel),
    "by_final": (by_final, _by_id),
    "alpaca": (alpaca, _json_array),
    "essays": (essays, _json_lines),
}


def written(name: str, folder: Path) -> Path:
    make, write = FILES[name]
    return write(make(), folder / name)
