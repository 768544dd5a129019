"""Fields of rows are counted by type, fill, distinct values and lengths, and taken for roles."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.intake.columns import find_column
from drsft.intake.field_profile import FieldType, lengths_of, profile_fields
from drsft.intake.roles import Role, candidates_for, clear_choice


def test_a_field_is_counted_by_type_fill_and_length() -> None:
    rows: list[dict[str, Any]] = [
        {"answer": "007", "meta": {"level": 1, "tags": []}},
        {"answer": Decimal("1.50"), "meta": {"level": 2, "tags": ["a"]}},
        {"answer": None, "meta": {"level": 1}, "late": True},
        {"answer": "", "messages": [{"role": "user", "content": "?"}]},
    ]
    by_path = {one.path: one for one in profile_fields(rows)}
    assert list(by_path) == ["answer", "meta.level", "meta.tags", "late", "messages"]
    answer = by_path["answer"]
    assert answer.types == {FieldType.TEXT: 2, FieldType.NUMBER: 1, FieldType.NULL: 1}
    assert (answer.num_rows, answer.num_filled, answer.num_distinct) == (4, 2, 2)
    assert answer.chars is not None
    assert (answer.chars.median, answer.chars.max) == (3, 4)
    assert by_path["meta.level"].num_distinct == 2
    assert by_path["late"].fill == 0.25
    assert by_path["messages"].type is FieldType.CONVERSATION
    assert all(find_column({**rows[0], **rows[2], **rows[3], **rows[1]}, [path]) for path in by_path)


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_lengths_are_those_of_the_sorted_list(lengths: list[int]) -> None:
    found = lengths_of(lengths)
    assert found is not None
    assert found.max == max(lengths)
    assert sum(length <= found.median for length in lengths) * 2 >= len(lengths)
    assert sum(length <= found.p95 for length in lengths) >= 0.9 * len(lengths)
    assert found.median in lengths


QUESTION, LONG = "How many apples are left?", "First we count the apples. Then we take some away. " * 3
DATASETS: dict[str, tuple[dict[str, Any], dict[Role, str]]] = {
    "gsm8k": (
        {"question": QUESTION, "answer": f"{LONG}\n#### 7"},
        {Role.QUESTION: "question", Role.DEMONSTRATION: "answer", Role.REFERENCE: "answer"},
    ),
    "math": (
        {"problem": QUESTION, "level": "Level 5", "solution": LONG, "answer": "7", "unique_id": "x/1.json"},
        {Role.QUESTION: "problem", Role.DEMONSTRATION: "solution", Role.REFERENCE: "answer"},
    ),
    "verl": (
        {
            "data_source": "x",
            "prompt": [{"role": "user", "content": QUESTION}],
            "reward_model": {"ground_truth": "7", "style": "rule"},
        },
        {Role.MESSAGES: "prompt", Role.REFERENCE: "reward_model.ground_truth"},
    ),
    "arc": (
        {
            "id": "1",
            "question": QUESTION,
            "choices": {"text": ["1", "2"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        {Role.QUESTION: "question", Role.OPTIONS: "choices", Role.REFERENCE: "answerKey"},
    ),
    "options by letter": (
        {"Question": QUESTION, "options": {"A": "1", "B": "2"}, "Correct Answer": "B"},
        {Role.QUESTION: "Question", Role.OPTIONS: "options", Role.REFERENCE: "Correct Answer"},
    ),
    "aqua": (
        {"question": QUESTION, "options": ["A)1", "B)2"], "rationale": LONG, "correct": "B"},
        {
            Role.QUESTION: "question",
            Role.OPTIONS: "options",
            Role.DEMONSTRATION: "rationale",
            Role.REFERENCE: "correct",
        },
    ),
    "chat": ({"messages": [{"role": "user", "content": QUESTION}], "answer": 7}, {Role.MESSAGES: "messages"}),
    "svamp": (
        {"Body": LONG, "Question": QUESTION, "Answer": 7.0, "ID": "chal-1"},
        {Role.QUESTION: "{Body}\n{Question}", Role.REFERENCE: "Answer"},
    ),
    "alpaca": (
        {"instruction": QUESTION, "input": "", "output": LONG},
        {Role.QUESTION: "instruction", Role.DEMONSTRATION: "output"},
    ),
    "alpaca with inputs": (
        {"instruction": QUESTION, "input": "3 apples", "output": LONG},
        {Role.QUESTION: "{instruction}\n{input}", Role.DEMONSTRATION: "output"},
    ),
    "multiarith": (
        {"iIndex": 1, "sQuestion": QUESTION, "lEquations": ["X=3+4"], "lSolutions": [Decimal("7.0")]},
        {Role.QUESTION: "sQuestion", Role.REFERENCE: "lSolutions"},
    ),
    "commonsense": (
        {
            "answerKey": "B",
            "question": {
                "stem": QUESTION,
                "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}],
            },
        },
        {Role.QUESTION: "question.stem", Role.OPTIONS: "question.choices", Role.REFERENCE: "answerKey"},
    ),
    "unknown names": (
        {"col1": QUESTION, "col2": f"{LONG} The answer is 7.", "col3": 7},
        {Role.QUESTION: "col1", Role.DEMONSTRATION: "col2", Role.REFERENCE: "col3"},
    ),
}


@pytest.mark.parametrize("name", DATASETS)
def test_the_columns_of_known_data_sets_are_found(name: str) -> None:
    fields, expected = DATASETS[name]
    rows = [
        {
            key: f"{value} {n}" if isinstance(value, str) and len(value) > 20 else value
            for key, value in fields.items()
        }
        for n in range(8)
    ]
    profiles = profile_fields(rows)
    for role, column in expected.items():
        candidates = candidates_for(role, profiles)
        assert candidates[0].column == column, candidates
        assert clear_choice(candidates) == candidates[0]
        assert "\n" not in candidates[0].reason


def test_a_short_answer_is_no_solution_and_an_index_no_answer() -> None:
    rows = [{"question": f"{QUESTION}{n}", "answer": "snow", "rowIndex": n} for n in range(5)]
    assert candidates_for(Role.DEMONSTRATION, profile_fields(rows)) == []
    assert [one.column for one in candidates_for(Role.REFERENCE, profile_fields(rows))] == ["answer"]


def test_two_columns_that_fit_alike_are_no_clear_choice() -> None:
    rows = [{"problem": f"{QUESTION}{n}", "question": f"{QUESTION} {n}", "answer": n} for n in range(5)]
    candidates = candidates_for(Role.QUESTION, profile_fields(rows))
    assert {one.column for one in candidates} == {"problem", "question"}
    assert clear_choice(candidates) is None
    assert clear_choice([]) is None
