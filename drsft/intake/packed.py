"""Converts rows and checks to plain tuples for pipes, since tuples are pickled and read back five times as
fast.
"""

from collections.abc import Sequence

from drsft.intake.checking import CheckedRow, CheckedRows, Rows
from drsft.intake.formats.row import BadRow, JsonLine, Row
from drsft.records import Message, Problem, QuarantinedRow

__all__ = ["packed_checks", "packed_rows", "unpacked_checks", "unpacked_rows"]

PackedRow = tuple[str, bytes] | Row | BadRow
PackedCheck = tuple[str, str, str, str, str, tuple[Message, ...], str, bool, int] | QuarantinedRow


def packed_rows(rows: Rows) -> list[PackedRow]:
    return [(row.place, row.line) if isinstance(row, JsonLine) else row for row in rows]


def unpacked_rows(rows: Sequence[PackedRow]) -> Rows:
    return [JsonLine(*row) if isinstance(row, tuple) else row for row in rows]


def packed_checks(rows: CheckedRows) -> list[PackedCheck]:
    return [row if isinstance(row, QuarantinedRow) else _as_tuple(row, row.problem) for row in rows]


def unpacked_checks(rows: Sequence[PackedCheck]) -> CheckedRows:
    return [row if isinstance(row, QuarantinedRow) else _of_tuple(*row) for row in rows]


def _as_tuple(row: CheckedRow, of: Problem) -> PackedCheck:
    texts = of.problem_id, of.question, of.demonstration, of.reference, of.kind
    return *texts, of.earlier, row.place, row.surely_fits, row.solution_key


def _of_tuple(
    problem_id: str,
    question: str,
    demonstration: str,
    reference: str,
    kind: str,
    earlier: tuple[Message, ...],
    place: str,
    surely_fits: bool,
    solution_key: int,
) -> CheckedRow:
    problem = Problem(
        problem_id=problem_id,
        question=question,
        demonstration=demonstration,
        reference=reference,
        kind=kind,
        earlier=earlier,
    )
    return CheckedRow(problem, place, surely_fits, solution_key)
