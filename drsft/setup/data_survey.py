"""What a data set holds: its rows, their columns, the verifier that fits, and what evaluates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from drsft.config import Columns, Problems
from drsft.errors import InputError
from drsft.intake.checking import RowRules, check_row
from drsft.intake.field_profile import profile_fields
from drsft.intake.roles import Role, candidates_for
from drsft.intake.rows import BadRow, Row, read_rows
from drsft.records import Outcome, Problem, QuarantinedRow
from drsft.setup.found_columns import Ask, FoundColumns, GivenColumns, find_columns
from drsft.setup.kind_trial import MAX_TRIED, chosen_trial, try_kinds
from drsft.verify.choice.offered import options_of
from drsft.verify.kinds import KINDS
from drsft.verify.pool import VerifierPool

__all__ = ["DataSurvey", "survey_data"]

_LETTERS = re.compile(r"\(?[A-Ja-j](?:, ?[A-Ja-j])*\)?")
MAX_ROWS = 20_000  # that are read
MAX_CHECKED = 400  # drawn evenly from them
MAX_RUN_AS_CODE = 30
TRIAL_TIMEOUT_S = 2.0
MIN_USABLE = 0.5
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
    first_set_aside: str
    sample: tuple[Problem, ...]
    held_out_split: str | None


def survey_data(problems: Problems, given: GivenColumns, ask: Ask, *, kind: str | None) -> DataSurvey:
    """Raises InputError, one line, for what cannot be used. `kind` is the user's, else it is found."""
    problems, rows = _read(problems)
    if given == GivenColumns() and _has_unseen_header(problems, rows):
        problems = problems.model_copy(
            update={"reading": problems.reading.model_copy(update={"header": True})}
        )
        problems, rows = _read(problems)
    drawn = _evenly([row for row in rows if isinstance(row, Row)], MAX_CHECKED)
    if not drawn:
        raise InputError(_no_rows(problems, rows))
    found = find_columns(
        [row.fields for row in drawn], given, ask, answers_needed=kind not in ("judge", "steps")
    )
    problems = problems.model_copy(update={"columns": _columns(found)})
    if kind is not None:
        reason = "given"
    elif found.is_code:
        kind, reason = "code", _code_reason(problems, drawn)
    else:
        kind, reason = _found_kind(problems, drawn, has_solutions=found.has_solutions)
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
        first_set_aside=f"{set_aside[0].reason}: {set_aside[0].detail[:80]}" if set_aside else "",
        sample=tuple(usable),
        held_out_split=_held_out_split(problems, first=next(one for one in rows if isinstance(one, Row))),
    )


def _read(problems: Problems) -> tuple[Problems, list[Row | BadRow]]:
    """The first rows of the split; of another one where there is no training split."""
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


def _has_unseen_header(problems: Problems, rows: Sequence[Row | BadRow]) -> bool:
    """Whether the first row of a table without names holds names, such as Question, A, B, C, D, Answer."""
    first = next((row for row in rows if isinstance(row, Row)), None)
    if problems.reading.header is not None or first is None or "column_1" not in first.fields:
        return False
    names = [str(value) for value in first.fields.values()]
    named = [dict.fromkeys(names, "What is it?")]
    return bool(candidates_for(Role.QUESTION, profile_fields(named))) and all(
        0 < len(name) < 40 and "?" not in name for name in names
    )


def _held_out_split(problems: Problems, *, first: Row) -> str | None:
    """A split with rows of its own."""
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


def _columns(found: FoundColumns) -> Columns:
    names = {
        "question": found.question,
        "demonstration": found.demonstration,
        "reference": found.reference,
        "messages": found.messages,
    }
    return Columns.model_validate({key: name for key, name in names.items() if name is not None})


def _checked(problems: Problems, rows: Sequence[Row]) -> tuple[list[Problem], list[QuarantinedRow]]:
    rules = RowRules(config=problems, kinds=frozenset({*KINDS, problems.kind}), needs_demonstration=True)
    checked = [check_row(row, rules) for row in rows]
    set_aside = [one for one in checked if isinstance(one, QuarantinedRow)]
    return [one.problem for one in checked if not isinstance(one, QuarantinedRow)], set_aside


def _found_kind(problems: Problems, rows: Sequence[Row], *, has_solutions: bool) -> tuple[str, str]:
    """The kind and the reason; kind `exact` takes any reference, so it shows them all."""
    every, set_aside = _checked(problems.model_copy(update={"kind": "exact"}), rows)
    if not every:
        raise InputError(_mostly_unusable(set_aside, len(rows)))
    tried = every[:: max(1, len(every) // MAX_TRIED)][:MAX_TRIED]
    _refuse_numbered_options(tried)
    with VerifierPool(timeout_s=TRIAL_TIMEOUT_S) as pool:
        trials = try_kinds(tried, pool.submit, has_solutions=has_solutions)
    median_chars = round(median(len(one.reference) for one in tried))
    are_letters = all(_LETTERS.fullmatch(one.reference.strip()) for one in tried)
    chosen = chosen_trial(trials, median_chars=median_chars, are_letters=are_letters)
    if are_letters and chosen.kind != "choice" and len({one.reference for one in tried}) > 1:
        raise InputError(
            "the answers are letters, but the questions list no options; name the field that holds them: "
            "--options FIELD, or the verifier: --kind math"
        )
    return chosen.kind, chosen.reason


def _refuse_numbered_options(problems: Sequence[Problem]) -> None:
    numbers = [(one.reference.strip(), options_of(one.question)) for one in problems]
    if not all(offered and one.isdigit() and int(one) <= len(offered) for one, offered in numbers):
        return
    if sum(one in offered.values() for one, offered in numbers) * 2 > len(numbers):
        return
    raise InputError(
        "the answers are numbers of options, such as "
        f"{problems[0].reference!r}; kind choice reads letters or the option's text: name a field that holds "
        "them with --answer FIELD"
    )


def _code_reason(problems: Problems, rows: Sequence[Row]) -> str:
    usable, _ = _checked(problems.model_copy(update={"kind": "code"}), rows)
    tried = usable[:MAX_RUN_AS_CODE]
    with VerifierPool(timeout_s=10.0) as pool:
        verdicts = [one.result() for one in [pool.submit(one, one.demonstration) for one in tried]]
    num_right = sum(one.outcome is Outcome.CORRECT for one in verdicts)
    unjudged = next((one.reason for one in verdicts if one.outcome is Outcome.UNJUDGED), None)
    return f"rows hold tests; {num_right} of {len(tried)} solutions pass them" + (
        f" ({unjudged})" if unjudged else ""
    )


def _no_rows(problems: Problems, rows: Sequence[Row | BadRow]) -> str:
    bad = next((row for row in rows if isinstance(row, BadRow)), None)
    if bad is None:
        return f"{problems.path!r} holds no rows; give a file with problems"
    return f"{bad.place}: {bad.kind}: {bad.reason}; no row could be read: see docs/data.md, problems.reading"


def _mostly_unusable(set_aside: Sequence[QuarantinedRow], num_rows: int) -> str:
    first = set_aside[0]
    return (
        f"{len(set_aside)} of {num_rows} rows cannot be used: {first.place}: {first.reason}: "
        f"{first.detail:.180}; name other fields with --question, --solution, --answer, or the verifier with "
        "--kind"
    )
