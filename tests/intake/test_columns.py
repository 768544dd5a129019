"""Texts out of fields: names, paths, templates, options, and the one rule for values."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from drsft.intake.columns import find_column, text_of

ROW: dict[str, Any] = {
    "question": "Which?",
    "nothing": None,
    "a": {"b": [{"c": "deep"}, {"c": "deeper"}]},
    "a.b": "flat",
    "list": ["x", "y"],
    "x[0]": "odd name",
}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.b[0].c", "deep"),
        ("a.b[-1].c", "deeper"),
        ("a.b", "flat"),  # a field of that name goes first
        ("list[1]", "y"),
        ("x[0]", "odd name"),
        ("{question} {a.b[0].c}", "Which? deep"),
    ],
)
def test_a_path_reaches_into_nested_fields(path: str, text: str) -> None:
    assert find_column(ROW, ["no", path]) == path
    assert text_of(ROW, path) == text


@pytest.mark.parametrize(
    "path", ["a.c", "a.b[2].c", "question.x", "list[2]", "{question} {no}", "", ".a", "a..b"]
)
def test_a_path_that_leads_nowhere_is_missing(path: str) -> None:
    assert find_column(ROW, [path]) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("007", "007"),
        (3, "3"),
        (3.0, "3.0"),
        (2**64 + 1, "18446744073709551617"),
        (Decimal("3.10"), "3.10"),
        (Decimal("1e400"), "1e400"),
        (1e-7, "1e-07"),
        (True, "True"),
        (False, "False"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 12), "2024-02-29 12:00:00"),
        ([1, 2.5, Decimal("3.0")], "1, 2.5, 3.0"),
        ([[1, 2], [3, 4]], "[1, 2], [3, 4]"),
        (["a", True], "a, True"),
        (b"bytes", "bytes"),
        (b"\xff\xfe", None),
        (float("nan"), None),
        (Decimal("Infinity"), None),
        ([1, None], None),
        ([], None),
        ({"x": 1}, None),
        (None, None),
    ],
)
def test_a_value_becomes_text_by_one_rule(value: Any, text: str | None) -> None:
    assert text_of({"answer": value}, "answer") == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{question}\n{nothing}\n{list}", "Which?\nx\ny"),
        ("{question} {nothing}", "Which? "),
        ("{question}\n\nHint: {nothing}", "Which?\n\nHint: "),
        ("{nothing}\n{nothing}", None),
    ],
)
def test_a_null_field_leaves_nothing_in_a_template(template: str, text: str | None) -> None:
    assert text_of(ROW, template) == text


@pytest.mark.parametrize(
    "options",
    [
        {"A": "4", "B": 5},
        {"A": "4", "B": 5, "C": None},  # as Parquet pads objects
        {"label": ["A", "B"], "text": ["4", "5"]},
        [{"label": "A", "text": "4"}, {"label": "B", "text": "5"}],
        [{"text": "4"}, {"text": "5"}],
        ["4", "5"],
        ["A. 4", "B. 5"],
    ],
)
def test_options_of_every_shape_get_a_line_and_a_letter_each(options: Any) -> None:
    row = {"question": "2+2?", "meta": {"options": options}}
    assert text_of(row, "{question}\n{meta.options}") == "2+2?\nA. 4\nB. 5"


def test_a_list_that_is_no_options_keeps_its_lines() -> None:
    assert text_of({"tests": ["assert f(1)", "assert f(2)"]}, "{tests}") == "assert f(1)\nassert f(2)"


@pytest.mark.parametrize(
    "cell",
    [
        '["4", "it\'s 5"]',
        """['4', "it's 5"]""",
        """['4' "it's 5"]""",  # numpy
        """{'text': array(['4', "it's 5"], dtype=object), 'label': array(['A', 'B'], dtype=object)}""",
    ],
)
def test_a_list_in_a_cell_of_text_gives_options_and_can_be_reached_into(cell: str) -> None:
    assert text_of({"options": cell}, "{options}") == "A. 4\nB. it's 5"
    inner = "options.text[1]" if cell.startswith("{") else "options[1]"
    assert text_of({"options": cell}, inner) == "it's 5"


@pytest.mark.parametrize(
    "text", ["[not a list", "[1, 2)", "{x}", "[" * 5000, "[x for x in y]", "[" + "-" * 9000]
)
def test_what_only_begins_as_a_list_stays_text(text: str) -> None:
    assert text_of({"options": text}, "{options}") == text
    assert find_column({"options": text}, ["options[0]"]) is None


def test_numbers_of_a_list_in_a_cell_keep_their_digits() -> None:
    assert text_of({"answers": "[3.10, 1e400]"}, "answers[0]") == "3.10"
    assert text_of({"answers": "[3.10, 1e400]"}, "answers[1]") == "1e400"
