"""Implements `drsft verify FILE`: judges rows and prints them as JSON lines with outcome and reason."""

import json
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from decimal import Decimal
from typing import Any, TextIO

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from drsft.config import Problems
from drsft.errors import ConfigError
from drsft.intake.columns import text_of
from drsft.intake.rows import BadRow, JsonLine, Row, read_unparsed_rows
from drsft.records import Outcome, Problem, Verdict
from drsft.verify.case import Case
from drsft.verify.explain import explain
from drsft.verify.kinds import check_kind
from drsft.verify.options import VerifyOptions
from drsft.verify.pool import VerifierPool

__all__ = ["verify_file"]

WINDOW = 512  # rows judged at once; a row is printed when it and all earlier ones are done


def verify_file(
    file: str,
    *,
    kind: str = "math",
    num_workers: int = 1,
    timeout_s: float = 5.0,
    with_explanation: bool = False,
    options: VerifyOptions | None = None,
    output: TextIO | None = None,
    console: Console | None = None,
) -> Counter[tuple[str, str]]:
    """Judges the rows of `file` ("-" is stdin) and writes them to `output` (stdout) in their order.

    A row is {"reference", "prediction", "kind"?, "question"?, "truncated"?, ...}; `kind` is the default. A
    row that is malformed is printed with outcome "unjudged" and the reason. `with_explanation` adds the field
    "explanation": how reference and answer were parsed, where they were found, and the rule that decided.
    Returns the number of rows by (outcome, reason).
    """
    check_kind(kind, options or VerifyOptions())
    output = output or sys.stdout
    console = console or Console(stderr=True)
    counts: Counter[tuple[str, str]] = Counter()
    pool = VerifierPool(num_workers=num_workers, timeout_s=timeout_s, options=options)
    with pool, _progress(console) as progress:
        task = progress.add_task("judging", total=None)
        for row, verdict in _judged(_rows(file), kind, pool):
            row["outcome"], row["reason"] = verdict.outcome.value, verdict.reason
            if with_explanation and row.get("reference") is not None and row.get("prediction") is not None:
                row["explanation"] = _explanation(row, kind, verdict, options or VerifyOptions())
            output.write(_written(row) + "\n")
            counts[verdict.outcome.value, verdict.reason] += 1
            progress.advance(task)
    output.flush()
    console.print(_summary(counts))
    return counts


def _rows(file: str) -> Iterator[Row | BadRow | JsonLine]:
    """Yields the rows of a file of any format that problems may have, or of JSON lines from stdin."""
    if file == "-":
        lines = enumerate(sys.stdin.buffer, start=1)
        yield from (JsonLine(f"stdin line {number}", line) for number, line in lines if line.strip())
    else:
        yield from read_unparsed_rows(Problems(path=file))


def _judged(
    rows: Iterable[Row | BadRow | JsonLine], kind: str, pool: VerifierPool
) -> Iterator[tuple[dict[str, Any], Verdict]]:
    """Yields rows with their verdicts, in order, with at most WINDOW in flight."""
    waiting: deque[tuple[dict[str, Any], Future[Verdict]]] = deque()
    for one in rows:
        waiting.append(_submitted(one, kind, pool))
        while len(waiting) >= WINDOW or (waiting and waiting[0][1].done()):
            row, future = waiting.popleft()
            yield row, future.result()
    while waiting:
        row, future = waiting.popleft()
        yield row, future.result()


def _written(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=True, default=_plain)
    except RecursionError:  # a value that could be read may be nested too deeply to be written
        return json.dumps({"outcome": row["outcome"], "reason": row["reason"]})


def _plain(value: Any) -> Any:
    """Converts a value that JSON cannot hold: exact decimals become numbers, dates and bytes become text."""
    return float(value) if isinstance(value, Decimal) else text_of({"x": value}, "x")


def _fields(one: Row | BadRow | JsonLine) -> dict[str, Any] | BadRow:
    """Returns the fields of a row.

    Invalid UTF-8 in JSON lines is kept as lone surrogates, so that it is written back unchanged.
    """
    if isinstance(one, Row):
        return one.fields
    if isinstance(one, BadRow):
        return one
    line = one.line.decode(errors="surrogateescape")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return BadRow(one.place, "not JSON", line.rstrip("\n"))
    return row if isinstance(row, dict) else BadRow(one.place, "not a JSON object", line.rstrip("\n"))


def _submitted(
    one: Row | BadRow | JsonLine, kind: str, pool: VerifierPool
) -> "tuple[dict[str, Any], Future[Verdict]]":
    row = _fields(one)
    if isinstance(row, BadRow):
        return {"line": row.content}, _refused(row.reason)
    for name in ("reference", "prediction"):
        if row.get(name) is None:
            return row, _refused(f"no field {name!r}")
    if row.get("truncated") in (True, "true", "True"):
        return row, _done(Verdict(outcome=Outcome.TRUNCATED, reason="cut off before its end"))
    problem = Problem(
        problem_id="",
        question=_text(row.get("question") or row.get("problem") or ""),
        demonstration="",
        reference=_text(row["reference"]),
        kind=_text(row.get("kind") or kind),
    )
    try:
        return row, pool.submit(problem, _text(row["prediction"]))
    except ConfigError as error:
        return row, _refused(str(error))


def _explanation(row: dict[str, Any], kind: str, verdict: Verdict, options: VerifyOptions) -> dict[str, Any]:
    case = Case(
        kind=_text(row.get("kind") or kind),
        question=_text(row.get("question") or row.get("problem") or ""),
        reference=_text(row["reference"]),
        text=_text(row["prediction"]),
    )
    reference, answer, rule = explain(case, verdict, options)
    return {
        "reference": asdict(reference),
        "answer": None if answer is None else asdict(answer),
        "compared": rule,
    }


def _text(value: Any) -> str:
    """Returns the value as text: JSON for a number or an object (such as unit tests) where text is
    expected.
    """
    return value if isinstance(value, str) else json.dumps(value, default=_plain)


def _refused(reason: str) -> "Future[Verdict]":
    return _done(Verdict(outcome=Outcome.UNJUDGED, reason=reason))


def _done(verdict: Verdict) -> "Future[Verdict]":
    future: Future[Verdict] = Future()
    future.set_result(verdict)
    return future


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _summary(counts: Counter[tuple[str, str]]) -> Table:
    table = Table("outcome", "reason", title=f"{sum(counts.values())} judged")
    table.add_column("rows", justify="right")
    by_outcome = Counter[str]()
    for (outcome, _), count in counts.items():
        by_outcome[outcome] += count
    for outcome, total in by_outcome.most_common():
        table.add_row(outcome, "", str(total), style="bold")
        for (other, reason), count in counts.most_common():
            if other == outcome:
                table.add_row("", reason, str(count))
    return table
