"""`drsft verify FILE`: judge JSON lines, print them again with their outcome and reason."""

import gzip
import json
import re
import sys
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from drsft.errors import ConfigError, InputError
from drsft.records import Outcome, Problem, Verdict
from drsft.verify.case import Case
from drsft.verify.explain import explain
from drsft.verify.kinds import check_kind
from drsft.verify.options import VerifyOptions
from drsft.verify.pool import VerifierPool

__all__ = ["verify_file"]

_ARRAY = re.compile(r"\s*\[\s*(\{|$)")  # how a JSON array of objects begins
WINDOW = 512  # rows that are being judged at once; a row is printed when it and all before it are done


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
    """Judge the rows of `file` ("-" is stdin) and write them to `output` (stdout) in their order.

    A row is {"reference", "prediction", "kind"?, "question"?, "truncated"?, ...}; `kind` is the default. A
    row that is none is printed with outcome "unjudged" and the reason. `with_explanation` adds the field
    "explanation": each side as it was read, from which place, and the rule. Returns counts by outcome and
    reason.
    """
    check_kind(kind, options or VerifyOptions())
    output = output or sys.stdout
    console = console or Console(stderr=True)
    counts: Counter[tuple[str, str]] = Counter()
    pool = VerifierPool(num_workers=num_workers, timeout_s=timeout_s, options=options)
    with _open(file) as lines, pool, _progress(console) as progress:
        task = progress.add_task("judging", total=_num_lines(file))
        for row, verdict in _judged(lines, file, kind, pool):
            row["outcome"], row["reason"] = verdict.outcome.value, verdict.reason
            if with_explanation and row.get("reference") is not None and row.get("prediction") is not None:
                row["explanation"] = _explanation(row, kind, verdict, options or VerifyOptions())
            output.write(_written(row) + "\n")
            counts[verdict.outcome.value, verdict.reason] += 1
            progress.advance(task)
    output.flush()
    console.print(_summary(counts))
    return counts


def _open(file: str) -> TextIO:
    """Invalid UTF-8 survives as lone surrogates, in and out."""
    if file == "-":
        return open(sys.stdin.fileno(), encoding="utf-8", errors="surrogateescape", closefd=False)
    try:
        if file.endswith(".gz"):
            return cast(TextIO, gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape"))
        return open(file, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None


def _num_lines(file: str) -> int | None:
    if file == "-" or file.endswith(".gz"):
        return None
    with Path(file).open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _judged(
    lines: TextIO, file: str, kind: str, pool: VerifierPool
) -> Iterator[tuple[dict[str, Any], Verdict]]:
    """Rows with their verdicts, in order, at most WINDOW in flight."""
    waiting: deque[tuple[dict[str, Any], Future[Verdict]]] = deque()
    for number, line in enumerate(_whole_lines(lines, file), start=1):
        if not line.strip():
            continue
        if number == 1 and _ARRAY.match(line):
            raise InputError(f"{file} is one JSON array; write one object a line: jq -c '.[]' FILE")
        waiting.append(_submitted(line, kind, pool))
        while len(waiting) >= WINDOW or (waiting and waiting[0][1].done()):
            row, future = waiting.popleft()
            yield row, future.result()
    while waiting:
        row, future = waiting.popleft()
        yield row, future.result()


def _whole_lines(lines: TextIO, file: str) -> Iterator[str]:
    try:
        yield from lines
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{file} breaks off or is not gzip: {error}; what came before it is judged"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read on in {file}: {error.strerror or error}") from error


def _written(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=True)
    except RecursionError:  # what could just be read may be too deep to be written
        return json.dumps({"outcome": row["outcome"], "reason": row["reason"]})


def _submitted(line: str, kind: str, pool: VerifierPool) -> "tuple[dict[str, Any], Future[Verdict]]":
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {"line": line.rstrip("\n")}, _refused("not JSON")
    if not isinstance(row, dict):
        return {"line": row}, _refused("not a JSON object")
    for name in ("reference", "prediction"):
        if row.get(name) is None:
            return row, _refused(f"no field {name!r}")
    if row.get("truncated") is True:
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
    """A number or a nested object (unit tests of code) may stand where text is expected."""
    return value if isinstance(value, str) else json.dumps(value)


def _refused(reason: str) -> "Future[Verdict]":
    return _done(Verdict(outcome=Outcome.UNJUDGED, reason=reason))


def _done(verdict: Verdict) -> "Future[Verdict]":
    future: Future[Verdict] = Future()
    future.set_result(verdict)
    return future


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
