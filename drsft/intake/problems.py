"""Turns rows into problems: gives them stable ids, counts duplicates, sets unusable rows aside with a reason.

Exact duplicates are only counted. Another solution to a known problem is set aside. The screens find
near-duplicates and problems of a benchmark.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from drsft.config import Problems
from drsft.errors import InputError, ModelError
from drsft.intake.checking import CheckedRow, CheckedRows, RowRules
from drsft.intake.clean.key_set import KeySet
from drsft.intake.clean.screen import Screen
from drsft.intake.parallel import check_in_order
from drsft.intake.rows import BadRow, JsonLine, Row, read_unparsed_rows
from drsft.policy.prompts import Prompter
from drsft.records import Problem, QuarantinedRow
from drsft.verify.kinds import KINDS

__all__ = ["Intake", "QuarantinedRow", "problems_of_rows", "read_problems"]


@dataclass(slots=True, kw_only=True)
class Intake:
    """Counts of the rows read so far, and the rows set aside."""

    num_read: int = 0
    num_in_other_parts: int = 0  # usable rows outside `problems.part`
    num_duplicates: int = 0
    quarantined: list[QuarantinedRow] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        return dict(Counter(row.reason for row in self.quarantined).most_common())


def read_problems(
    config: Problems,
    intake: Intake,
    *,
    prompter: Prompter | None = None,
    max_model_len: int | None = None,
    needs_demonstration: bool = True,
    screens: Sequence[Screen] = (),
    kinds: Collection[str] = KINDS,
) -> Iterator[Problem]:
    """Yields the usable problems in order, and updates `intake` on the way.

    `kinds` are those that can be judged (`kinds_of`). With a `prompter`, problems of more than
    `max_model_len` tokens are set aside. A screen sees only problems that earlier checks and screens
    accepted. Rows are read ahead and checked in several processes, which does not change the result.

    Raises InputError if not one problem is usable; it names the first bad row's file, line and field.
    """
    has_any = False
    for problem in problems_of_rows(
        read_unparsed_rows(config),
        config,
        intake,
        prompter=prompter,
        max_model_len=max_model_len,
        needs_demonstration=needs_demonstration,
        screens=screens,
        kinds=kinds,
    ):
        has_any = True
        yield problem
    if not has_any:
        raise InputError(_nothing_usable(config, intake))


def problems_of_rows(
    rows: Iterable[Row | BadRow | JsonLine],
    config: Problems,
    intake: Intake,
    *,
    prompter: Prompter | None = None,
    max_model_len: int | None = None,
    needs_demonstration: bool = True,
    screens: Sequence[Screen] = (),
    kinds: Collection[str] = KINDS,
) -> Iterator[Problem]:
    """Yields the usable problems of `rows`, as `read_problems` does; there may be none."""
    rules = RowRules(
        config=config,
        kinds=frozenset(kinds),
        needs_demonstration=needs_demonstration,
        thought=None if prompter is None else prompter.turn.thought,
        max_model_len=None if prompter is None else max_model_len,
        length_bound=None if prompter is None else prompter.length_bound(),
    )
    seen, seen_solutions = KeySet(), KeySet()
    for chunk in check_in_order(rows, rules):
        for row in _measured(chunk, prompter, max_model_len):
            if isinstance(row, CheckedRow) and not config.holds(row.problem.whole_question):
                intake.num_in_other_parts += 1
                continue
            intake.num_read += 1
            if isinstance(row, CheckedRow):
                key = _key_of(row.problem)
                if key in seen:
                    if not seen_solutions.add(row.solution_key):
                        intake.num_duplicates += 1
                        continue
                    row = _another_solution(row.problem, row.place)
                else:
                    row = _screened(row, screens)
            if isinstance(row, QuarantinedRow):
                intake.quarantined.append(row)
                continue
            seen.add(key)
            seen_solutions.add(row.solution_key)
            yield row.problem
            if config.limit is not None and len(seen) >= config.limit:
                return


def _measured(
    rows: CheckedRows, prompter: Prompter | None, max_model_len: int | None
) -> Iterator[CheckedRow | QuarantinedRow]:
    """Yields the rows, with those that are too long set aside.

    Rows of unsure length are tokenised together.
    """
    long = [row for row in rows if isinstance(row, CheckedRow) and not row.surely_fits]
    if not long or prompter is None or max_model_len is None:
        yield from rows
        return
    try:
        counts = iter(prompter.num_tokens([row.problem for row in long]))
    except (ModelError, InputError):  # one of them cannot be tokenised; the loop below finds out which
        counts = None
    for row in rows:
        if isinstance(row, QuarantinedRow) or row.surely_fits:
            yield row
        else:
            num_tokens = _num_tokens(row, prompter) if counts is None else next(counts)
            yield _fitting(row, num_tokens, max_model_len) if isinstance(num_tokens, int) else num_tokens


def _num_tokens(row: CheckedRow, prompter: Prompter) -> int | QuarantinedRow:
    problem = row.problem
    try:
        return prompter.num_tokens([problem])[0]
    except ModelError as error:
        if not problem.earlier:
            raise
        content = problem.whole_question[:500]
        return QuarantinedRow(
            place=row.place, reason="refused by the chat template", detail=str(error), content=content
        )
    except InputError as error:
        content = problem.demonstration[:500]
        return QuarantinedRow(place=row.place, reason="unclosed thought", detail=str(error), content=content)


def _fitting(row: CheckedRow, num_tokens: int, max_model_len: int) -> CheckedRow | QuarantinedRow:
    if num_tokens <= max_model_len:
        return row
    return QuarantinedRow(
        place=row.place,
        reason="too long for the model",
        detail=f"{num_tokens} tokens, target.max_model_len is {max_model_len}",
        content=row.problem.question[:500],
    )


def _key_of(problem: Problem) -> int:
    """Returns 64 of the 80 bits of the id, which is a hash of the content."""
    return int(problem.problem_id[:16], 16)


def _another_solution(problem: Problem, place: str) -> QuarantinedRow:
    """Returns the row as set aside: a record holds one demonstration, so the problem's first one is kept."""
    return QuarantinedRow(
        place=place,
        reason="another solution to an earlier problem",
        detail=f"problem {problem.problem_id} keeps its first one",
        content=problem.demonstration[:500],
    )


def _screened(row: CheckedRow, screens: Sequence[Screen]) -> CheckedRow | QuarantinedRow:
    for screen in screens:
        if finding := screen.look_at(row.problem, row.place):
            content = row.problem.question[:500]
            return QuarantinedRow(
                place=row.place, reason=finding.reason, detail=finding.detail, content=content
            )
    return row


def _nothing_usable(config: Problems, intake: Intake) -> str:
    """Returns the one-line message that says why no problem was usable."""
    if intake.num_in_other_parts:
        return (
            f"problems.part {config.part!r} holds none of the {intake.num_in_other_parts} problems of "
            f"{config.path!r}; set a wider range"
        )
    if not intake.quarantined:
        return f"problems.path {config.path!r} has no rows; give a file with problems"
    first = intake.quarantined[0]
    return f"{first.place}: {first.reason}: {first.detail}; none of {intake.num_read} rows was usable"
