"""Turns a row into a problem, or into the reason to set it aside. It needs no other row and no tokenizer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from string import ascii_uppercase
from typing import Literal

from drsft.config import Columns, Problems
from drsft.errors import InputError
from drsft.intake.columns import find_column, template_fields, text_of, value_at
from drsft.intake.formats.row import BadRow, JsonLine, Row
from drsft.intake.messages import Conversation, UnusableConversation, read_conversation
from drsft.policy.turn.thoughts import split_text
from drsft.policy.turn.token_bounds import LengthBound
from drsft.policy.turn.turn import Thought
from drsft.records import Problem, QuarantinedRow, problem_id_of
from drsft.verify.code.program import reference_of_row
from drsft.verify.references import parse_reference, unmeetable

__all__ = [
    "CheckedRow",
    "CheckedRows",
    "RowRules",
    "Rows",
    "check_row",
    "check_rows",
]

_NUMBER = re.compile(r"\d{1,2}(?:\.0)?")
FieldName = Literal["question", "demonstration", "reference"]
Rows = Sequence[Row | BadRow | JsonLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRules:
    """The conditions under which a row becomes a problem. Picklable, since other processes check rows too."""

    config: Problems
    kinds: frozenset[str]
    needs_demonstration: bool
    thought: Thought | None = None  # the thought layout of the target's turn
    max_model_len: int | None = None  # None: any length will do
    length_bound: LengthBound | None = None


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row that passed the checks, with its problem."""

    problem: Problem
    place: str
    surely_fits: bool
    """Whether the problem certainly fits; otherwise its tokens have to be counted."""
    solution_key: int
    """64 bits of a hash of the problem and its demonstration."""


CheckedRows = Sequence[CheckedRow | QuarantinedRow]


def check_rows(rows: Rows, rules: RowRules) -> CheckedRows:
    return [check_row(row, rules) for row in rows]


def check_row(row: Row | BadRow | JsonLine, rules: RowRules) -> CheckedRow | QuarantinedRow:
    problem = _problem(row.parsed() if isinstance(row, JsonLine) else row, rules)
    if isinstance(problem, QuarantinedRow):
        return problem
    solution = f"{problem.problem_id}\x00{problem.demonstration}".encode()
    return CheckedRow(
        problem=problem,
        place=row.place,
        surely_fits=rules.max_model_len is None or _surely_fits(problem, rules, rules.max_model_len),
        solution_key=int.from_bytes(blake2b(solution, digest_size=8).digest(), "big"),
    )


def _surely_fits(problem: Problem, rules: RowRules, max_model_len: int) -> bool:
    """Returns whether a problem is short enough by a bound that needs no tokenizer.

    A problem whose demonstration opens a thought and never closes it does not count as fitting.
    """
    if rules.length_bound is None or problem.earlier or rules.length_bound.of(problem) > max_model_len:
        return False
    try:
        split_text(problem.demonstration, rules.thought)
    except InputError:
        return False
    return True


def _problem(row: Row | BadRow, rules: RowRules) -> Problem | QuarantinedRow:
    config = rules.config
    if isinstance(row, BadRow):
        return QuarantinedRow(place=row.place, reason=row.kind, detail=row.reason, content=row.content)
    kind_column = find_column(row.fields, [config.columns.kind] if config.columns.kind else [])
    kind = (text_of(row.fields, kind_column) if kind_column is not None else None) or config.kind
    if kind not in rules.kinds:
        detail = f"{kind!r}; known: {', '.join(sorted(rules.kinds))}; others: rewrite.verification"
        return _set_aside(row, "unknown verifier kind", detail)
    asked = _asked(row, config.columns, keeps_thought=rules.thought is not None)
    if isinstance(asked, QuarantinedRow):
        return asked
    tests = reference_of_row(row.fields, asked.question) if kind == "code" else None
    written = tests or _value(row, "reference", config.columns.candidates("reference"))
    if isinstance(written, QuarantinedRow):
        return written
    demonstration = _demonstration(row, config.columns, asked) if rules.needs_demonstration else ""
    if isinstance(demonstration, QuarantinedRow):
        return demonstration
    if kind == "choice" and config.options_from is not None:
        written = _letter(written.strip(), config.options_from)
    reference = parse_reference(written.strip(), kind)
    if reference is None:
        return _set_aside(row, "no parsable reference answer", written[:200])
    question = asked.question.strip()
    if (finding := unmeetable(question, reference, kind)) is not None:
        proposal = f"; kind {finding.proposed_kind!r} could judge it" if finding.proposed_kind else ""
        return _set_aside(row, "reference cannot be met", f"{finding.reason}{proposal}: {reference[:200]}")
    return Problem(
        problem_id=problem_id_of(question, reference, asked.earlier),
        question=question,
        demonstration=demonstration.strip(),
        reference=reference,
        kind=kind,
        earlier=asked.earlier,
    )


def _asked(row: Row, columns: Columns, *, keeps_thought: bool) -> Conversation | QuarantinedRow:
    """Returns the row's question, or the conversation that ends with the question."""
    if columns.messages is None:
        question = _value(row, "question", columns.candidates("question"))
        return question if isinstance(question, QuarantinedRow) else Conversation(question=question)
    if find_column(row.fields, [columns.messages]) is None:
        has = ", ".join(map(str, row.fields))
        detail = f"field {columns.messages!r} is missing (it has: {has}); set columns.messages"
        return _set_aside(row, "no messages", detail)
    found = read_conversation(value_at(row.fields, columns.messages), keeps_thought=keeps_thought)
    if isinstance(found, UnusableConversation):
        return _set_aside(row, found.reason, f"field {columns.messages!r}: {found.detail}")
    texts = [found.question, found.answer or "", *(turn.content for turn in found.earlier)]
    if not all(map(_is_unicode, texts)):
        detail = f"field {columns.messages!r} contains half of a surrogate pair"
        return _set_aside(row, "not valid Unicode", detail)
    return found


def _letter(number: str, first: int) -> str:
    """Returns the letter of the option with this number, or the text itself if it is not such a number."""
    place = int(number.removesuffix(".0")) - first if _NUMBER.fullmatch(number) else -1
    return ascii_uppercase[place] if 0 <= place < len(ascii_uppercase) else number


def _demonstration(row: Row, columns: Columns, asked: Conversation) -> str | QuarantinedRow:
    if asked.answer is not None and not columns.sets_demonstration:
        return asked.answer
    return _value(row, "demonstration", columns.candidates("demonstration"))


def _value(row: Row, name: FieldName, candidates: Sequence[str]) -> str | QuarantinedRow:
    """Returns the text of a column, exactly as in the row, or the reason to set the row aside."""
    column = find_column(row.fields, candidates)
    if column is None:
        wanted = " or ".join(map(repr, candidates))
        has = ", ".join(map(str, row.fields))
        return _set_aside(row, f"no {name}", f"field {wanted} is missing (it has: {has}); set columns.{name}")
    value = text_of(row.fields, column)
    if value is None:
        return _set_aside(row, f"no {name}", _why_no_text(row, column, name))
    if not value.strip():
        return _set_aside(row, f"empty {name}", f"field {column!r} is empty")
    if not _is_unicode(value):
        return _set_aside(row, "not valid Unicode", f"field {column!r} contains half of a surrogate pair")
    return value


def _why_no_text(row: Row, column: str, name: FieldName) -> str:
    """Returns the end of a message: the type that the field holds instead of a text, and how to name a text
    inside it.
    """
    for field_name in template_fields(column):
        match value_at(row.fields, field_name):
            case {**members} if members:
                inner = ", ".join(map(str, members))
                return (
                    f"field {field_name!r} is an object (it has: {inner:.200}); "
                    f"set columns.{name} to one of them, as in {field_name}.{next(iter(members))}"
                )
            case None:
                return f"field {column!r} is null"
    return f"field {column!r} is not text"


def _is_unicode(text: str) -> bool:
    """Returns whether a text is valid Unicode: JSON can spell lone surrogates, which tokenizers reject."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _set_aside(row: Row, reason: str, detail: str) -> QuarantinedRow:
    try:
        content = str(row.fields)[:500].encode(errors="replace").decode()
    except RecursionError:
        content = "(nested too deeply to be shown)"
    return QuarantinedRow(place=row.place, reason=reason, detail=detail, content=content)
