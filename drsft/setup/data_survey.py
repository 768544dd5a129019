"""Surveys a data set: its rows, their columns, the verifier to use, and what to evaluate on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Literal

from drsft.config import Columns, Problems
from drsft.errors import InputError
from drsft.intake.checking import RowRules, check_row
from drsft.intake.rows import BadRow, Row, read_rows
from drsft.records import Outcome, Problem, QuarantinedRow
from drsft.setup.found_columns import Ask, FoundColumns, GivenColumns, find_columns
from drsft.setup.kind_trial import MAX_TRIED, chosen_trial, try_kinds
from drsft.verify.choice.offered import options_of
from drsft.verify.kinds import KINDS
from drsft.verify.pool import VerifierPool

__all__ = ["WESTERN", "DataSurvey", "survey_data"]

_LETTERS = re.compile(r"\(?[A-Ja-j](?:, ?[A-Ja-j])*\)?")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
WESTERN, MAX_ACCENTS_IN_A_ROW = "cp1252", 3  # on average; letters of other scripts stand side by side
MAX_ROWS = 20_000  # that are read
MAX_CHECKED = 400  # drawn evenly from them
MAX_RUN_AS_CODE = 30
TRIAL_TIMEOUT_S = 2.0
MIN_USABLE = 0.5
MOST = 0.95
_OPTION_NUMBER = re.compile(r"\d{1,2}")
HELD_OUT_SPLITS = ("test", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSurvey:
    problems: Problems  # with columns, kind and split
    columns: FoundColumns
    kind_reason: str
    num_rows: int
    is_whole: bool  # false: there are more rows than were read
    num_checked: int
    num_set_aside: int
    first_set_aside: str  # its reason
    sample: tuple[Problem, ...]
    held_out_split: str | None


def survey_data(problems: Problems, given: GivenColumns, ask: Ask, *, kind: str | None) -> DataSurvey:
    """Reads up to MAX_ROWS rows, and finds their columns, their verifier and a split to evaluate on.

    `given` are the columns that the user named; `ask` decides between candidates for another one. `kind` is
    the verifier that the user chose; None chooses one by trial. Raises InputError, whose one line says what
    to do, for data that cannot be used.
    """
    problems, rows = _read_western(*_read(problems))
    drawn = _evenly([row for row in rows if isinstance(row, Row)], MAX_CHECKED)
    if not drawn:
        raise InputError(_no_rows(problems, rows))
    found = find_columns(
        [row.fields for row in drawn], given, ask, answers_needed=kind not in ("judge", "steps")
    )
    problems = problems.model_copy(update={"columns": _columns(found, problems.columns.kind)})
    if kind is not None:
        reason = "given"
    elif found.kind is not None:
        kind, reason = problems.kind, "the verifier of rows that name none"
    elif found.is_code:
        kind, reason = "code", _code_reason(problems, drawn)
    else:
        kind, reason, first = _found_kind(problems, drawn, has_solutions=found.has_solutions)
        problems = problems.model_copy(update={"options_from": first})
    problems = problems.model_copy(update={"kind": kind})
    usable, set_aside = _checked(problems, drawn)
    if len(usable) < MIN_USABLE * len(drawn):
        raise InputError(_mostly_unusable(set_aside, len(drawn)))
    return DataSurvey(
        problems=problems,
        columns=found,
        kind_reason=reason,
        num_rows=len(rows),
        is_whole=len(rows) < MAX_ROWS,
        num_checked=len(drawn),
        num_set_aside=len(set_aside),
        first_set_aside=f"{set_aside[0].reason}: {set_aside[0].detail:.80}" if set_aside else "",
        sample=tuple(usable),
        held_out_split=_held_out_split(problems, first=next(one for one in rows if isinstance(one, Row))),
    )


def _read(problems: Problems) -> tuple[Problems, list[Row | BadRow]]:
    """Returns the first rows of the split, or of another split if there is no training split."""
    try:
        return problems, list(islice(read_rows(problems), MAX_ROWS))
    except InputError:
        if problems.split != "train":
            raise
        for split in HELD_OUT_SPLITS:
            other = problems.model_copy(update={"split": split})
            try:
                return other, list(islice(read_rows(other), MAX_ROWS))
            except InputError:
                continue
        raise


def _read_western(problems: Problems, rows: list[Row | BadRow]) -> tuple[Problems, list[Row | BadRow]]:
    """Returns the rows decoded as cp1252 (Windows, Western), if they are not UTF-8 and have accents within
    words.
    """
    if problems.reading.encoding is not None or not any(
        isinstance(row, BadRow) and "utf-8" in row.reason.lower() for row in rows
    ):
        return problems, rows
    reading = problems.reading.model_copy(update={"encoding": WESTERN})
    western, reread = _read(problems.model_copy(update={"reading": reading}))
    texts = (
        f"{name} {value}" for row in reread if isinstance(row, Row) for name, value in row.fields.items()
    )
    accents = [run for text in texts for run in _NOT_ASCII.findall(text)]
    is_western = bool(accents) and sum(map(len, accents)) < MAX_ACCENTS_IN_A_ROW * len(accents)
    return (western, reread) if is_western else (problems, rows)


def _held_out_split(problems: Problems, *, first: Row) -> str | None:
    """Returns a held-out split whose rows differ from the training split's, or None."""
    for split in HELD_OUT_SPLITS:
        if split == problems.split:
            continue
        try:
            row = next(read_rows(problems.model_copy(update={"split": split})), None)
        except InputError:
            continue
        if isinstance(row, Row) and row != first:
            return split
    return None


def _evenly(rows: Sequence[Row], number: int) -> list[Row]:
    step = max(1, len(rows) / number)
    return [rows[int(i * step)] for i in range(min(number, len(rows)))]


def _columns(found: FoundColumns, kind: str | None) -> Columns:
    names = {
        "question": found.question,
        "demonstration": found.demonstration,
        "reference": found.reference,
        "messages": found.messages,
        "kind": kind or found.kind,
    }
    return Columns.model_validate({key: name for key, name in names.items() if name is not None})


def _checked(problems: Problems, rows: Sequence[Row]) -> tuple[list[Problem], list[QuarantinedRow]]:
    rules = RowRules(config=problems, kinds=frozenset({*KINDS, problems.kind}), needs_demonstration=True)
    checked = [check_row(row, rules) for row in rows]
    set_aside = [one for one in checked if isinstance(one, QuarantinedRow)]
    return [one.problem for one in checked if not isinstance(one, QuarantinedRow)], set_aside


def _found_kind(
    problems: Problems, rows: Sequence[Row], *, has_solutions: bool
) -> tuple[str, str, Literal[0, 1] | None]:
    """Returns the verifier's kind, the reason, and the first option's number if answers are numbers of
    options.

    Rows are first checked with kind `exact`, which accepts any reference.
    """
    every, set_aside = _checked(problems.model_copy(update={"kind": "exact"}), rows)
    if not every:
        raise InputError(_mostly_unusable(set_aside, len(rows)))
    tried = every[:: max(1, len(every) // MAX_TRIED)][:MAX_TRIED]
    first = _first_number(every) if problems.options_from is None else problems.options_from
    if first is not None:
        letters = problems.model_copy(update={"kind": "choice", "options_from": first})
        every, _ = _checked(letters, rows)
        tried = every[:: max(1, len(every) // MAX_TRIED)][:MAX_TRIED]
    with VerifierPool(timeout_s=TRIAL_TIMEOUT_S) as pool:
        trials = try_kinds(tried, pool.submit, has_solutions=has_solutions)
    median_chars = round(median(len(one.reference) for one in tried))
    are_letters = all(_LETTERS.fullmatch(one.reference.strip()) for one in tried)
    chosen = chosen_trial(trials, median_chars=median_chars, are_letters=are_letters)
    if are_letters and chosen.kind != "choice" and len({one.reference for one in tried}) > 1:
        raise InputError(
            "the answers are letters, but the questions list no options; name the field with the options: "
            "--options FIELD, or the verifier: --kind math"
        )
    reason = chosen.reason if first is None else f"answers are numbers of options; {chosen.reason}"
    return chosen.kind, reason, first


def _first_number(problems: Sequence[Problem]) -> Literal[0, 1] | None:
    """Returns the number of the first option if answers are numbers of options; else None."""
    every = [(one.reference.strip().removesuffix(".0"), options_of(one.question)) for one in problems]
    offers = [
        (one, offered)
        for one, offered in every
        if offered and _OPTION_NUMBER.fullmatch(one) and int(one) <= len(offered)
    ]
    if len(offers) < MOST * len(every):
        return None
    if sum(one in offered.values() for one, offered in offers) * 2 > len(offers):
        return None
    if any(int(one) == 0 for one, _ in offers):
        return 0
    if any(int(one) == len(offered) for one, offered in offers):
        return 1
    raise InputError(
        f"the answers are option numbers, such as {problems[0].reference!r}, and none of them shows whether "
        "the first option is 0 or 1; set problems.options_from=0 or =1"
    )


def _code_reason(problems: Problems, rows: Sequence[Row]) -> str:
    usable, _ = _checked(problems.model_copy(update={"kind": "code"}), rows)
    tried = usable[:MAX_RUN_AS_CODE]
    with VerifierPool(timeout_s=10.0) as pool:
        verdicts = [one.result() for one in [pool.submit(one, one.demonstration) for one in tried]]
    num_right = sum(one.outcome is Outcome.CORRECT for one in verdicts)
    if tried and not any(one.outcome in (Outcome.CORRECT, Outcome.UNJUDGED) for one in verdicts):
        raise InputError(
            f"the rows have tests, but none of {len(tried)} solutions passes ({verdicts[0].reason:.120}); "
            "name the field with the code: --solution FIELD, or another reference: --answer FIELD"
        )
    unjudged = next((one.reason for one in verdicts if one.outcome is Outcome.UNJUDGED), None)
    return f"the rows have tests; {num_right} of {len(tried)} solutions pass them" + (
        f" ({unjudged})" if unjudged else ""
    )


def _no_rows(problems: Problems, rows: Sequence[Row | BadRow]) -> str:
    bad = next((row for row in rows if isinstance(row, BadRow)), None)
    if bad is None:
        return f"{problems.path!r} has no rows; give a file with problems"
    return f"{bad.place}: {bad.kind}: {bad.reason}; no row could be read: set problems.reading (docs/data.md)"


def _mostly_unusable(set_aside: Sequence[QuarantinedRow], num_rows: int) -> str:
    first = set_aside[0]
    return (
        f"{len(set_aside)} of {num_rows} rows cannot be used: {first.place}: {first.reason}: "
        f"{first.detail:.180}; name other fields with --question, --solution, --answer, or the verifier with "
        "--kind"
    )
