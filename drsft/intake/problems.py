"""From rows to problems: stable ids, duplicates counted, rows that are wrong set aside with a reason.

Exact duplicates are only counted, and other solutions to a problem set aside; near-duplicates and problems of
a benchmark are found by the screens.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from drsft.config import Columns, Problems
from drsft.errors import InputError, ModelError
from drsft.intake.clean.screen import Screen
from drsft.intake.clean.string_set import Seen
from drsft.intake.columns import find_column, text_of
from drsft.intake.messages import Conversation, UnusableConversation, read_conversation
from drsft.intake.rows import BadRow, Row, read_rows
from drsft.policy.prompts import Prompter
from drsft.records import Problem, problem_id_of
from drsft.run.plan import QuarantinedRow
from drsft.verify.code.program import reference_of_row
from drsft.verify.kinds import KINDS
from drsft.verify.references import unmeetable

__all__ = ["Intake", "QuarantinedRow", "read_problems"]

FieldName = Literal["question", "demonstration", "reference"]
ParseReference = Callable[[str, str], str | None]


@dataclass(slots=True, kw_only=True)
class Intake:
    """What became of the rows read so far."""

    num_read: int = 0
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
    parse_reference: ParseReference,
    needs_demonstration: bool = True,
    screens: Sequence[Screen] = (),
    kinds: Collection[str] = KINDS,
) -> Iterator[Problem]:
    """The usable problems in order; `intake` is brought up to date on the way.

    `kinds` are those that can be judged (`kinds_of`). A screen sees only what the checks and screens before
    it let pass.

    Raises InputError naming file, line and field when the source holds rows but not one usable problem.
    """
    has_conversations = config.columns.messages is not None
    keeps_thought = has_conversations and prompter is not None and prompter.turn.thought is not None
    seen = Seen()
    seen_rows = Seen()  # problem id and demonstration
    for row in read_rows(config):
        intake.num_read += 1
        problem = _parse(
            row, config, parse_reference, needs_demonstration, kinds, keeps_thought=keeps_thought
        )
        if isinstance(problem, Problem) and prompter is not None and max_model_len is not None:
            problem = _fits(problem, row.place, prompter, max_model_len)
        if isinstance(problem, Problem) and problem.problem_id in seen:
            if not seen_rows.add(_row_id(problem)):
                intake.num_duplicates += 1
                continue
            problem = _another_solution(problem, row.place)
        if isinstance(problem, Problem):
            problem = _screened(problem, row.place, screens)
        if isinstance(problem, QuarantinedRow):
            intake.quarantined.append(problem)
        else:
            seen.add(problem.problem_id)
            seen_rows.add(_row_id(problem))
            yield problem
        if config.limit is not None and len(seen) >= config.limit:
            break
    if not seen:
        raise InputError(_nothing_usable(config, intake))


def _parse(
    row: Row | BadRow,
    config: Problems,
    parse_reference: ParseReference,
    needs_demonstration: bool,
    kinds: Collection[str],
    *,
    keeps_thought: bool,
) -> Problem | QuarantinedRow:
    if isinstance(row, BadRow):
        return QuarantinedRow(place=row.place, reason=row.kind, detail=row.reason, content=row.content)
    by_row = text_of(row.fields, config.columns.kind) if config.columns.kind in row.fields else None
    kind = by_row or config.kind
    if kind not in kinds:
        detail = f"{kind!r}; known: {', '.join(sorted(kinds))}; others: rewrite.verification"
        return _set_aside(row, "unknown verifier kind", detail)
    asked = _asked(row, config.columns, keeps_thought=keeps_thought)
    if isinstance(asked, QuarantinedRow):
        return asked
    tests = reference_of_row(row.fields, asked.question) if kind == "code" else None
    written = tests or _value(row, "reference", config.columns.candidates("reference"))
    if isinstance(written, QuarantinedRow):
        return written
    demonstration = _demonstration(row, config.columns, asked) if needs_demonstration else ""
    if isinstance(demonstration, QuarantinedRow):
        return demonstration
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
    """The row's question, or the conversation that stands in its place."""
    if columns.messages is None:
        question = _value(row, "question", columns.candidates("question"))
        return question if isinstance(question, QuarantinedRow) else Conversation(question=question)
    if columns.messages not in row.fields:
        has = ", ".join(map(str, row.fields))
        detail = f"field {columns.messages!r} is missing (it has: {has}); set columns.messages"
        return _set_aside(row, "no messages", detail)
    found = read_conversation(row.fields[columns.messages], keeps_thought=keeps_thought)
    if isinstance(found, UnusableConversation):
        return _set_aside(row, found.reason, f"field {columns.messages!r}: {found.detail}")
    texts = [found.question, found.answer or "", *(turn.content for turn in found.earlier)]
    if not all(map(_is_unicode, texts)):
        detail = f"field {columns.messages!r} holds half a surrogate pair"
        return _set_aside(row, "not valid Unicode", detail)
    return found


def _demonstration(row: Row, columns: Columns, asked: Conversation) -> str | QuarantinedRow:
    if asked.answer is not None and not columns.sets_demonstration:
        return asked.answer
    return _value(row, "demonstration", columns.candidates("demonstration"))


def _value(row: Row, name: FieldName, candidates: Sequence[str]) -> str | QuarantinedRow:
    """The text as it stands in the row."""
    column = find_column(row.fields, candidates)
    if column is None:
        wanted = " or ".join(map(repr, candidates))
        has = ", ".join(map(str, row.fields))
        return _set_aside(row, f"no {name}", f"field {wanted} is missing (it has: {has}); set columns.{name}")
    value = text_of(row.fields, column)
    if value is None:
        return _set_aside(row, f"no {name}", f"field {column!r} is not text")
    if not value.strip():
        return _set_aside(row, f"empty {name}", f"field {column!r} is empty")
    if not _is_unicode(value):
        return _set_aside(row, "not valid Unicode", f"field {column!r} holds half a surrogate pair")
    return value


def _is_unicode(text: str) -> bool:
    """JSON can spell lone surrogates, which no file and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(problem: Problem, place: str, prompter: Prompter, max_model_len: int) -> Problem | QuarantinedRow:
    try:
        num_tokens = len(prompter.plain(problem)) + len(prompter.completion(problem.demonstration))
    except ModelError as error:
        if not problem.earlier:
            raise
        content = problem.whole_question[:500]
        return QuarantinedRow(
            place=place, reason="refused by the chat template", detail=str(error), content=content
        )
    except InputError as error:
        content = problem.demonstration[:500]
        return QuarantinedRow(place=place, reason="unclosed thought", detail=str(error), content=content)
    if num_tokens <= max_model_len:
        return problem
    return QuarantinedRow(
        place=place,
        reason="too long for the model",
        detail=f"{num_tokens} tokens, target.max_model_len is {max_model_len}",
        content=problem.question[:500],
    )


def _row_id(problem: Problem) -> str:
    return f"{problem.problem_id}\x00{problem.demonstration}"


def _another_solution(problem: Problem, place: str) -> QuarantinedRow:
    """One demonstration is kept for a problem, the first: a record has room for one."""
    return QuarantinedRow(
        place=place,
        reason="another solution to an earlier problem",
        detail=f"problem {problem.problem_id} keeps its first one",
        content=problem.demonstration[:500],
    )


def _screened(problem: Problem, place: str, screens: Sequence[Screen]) -> Problem | QuarantinedRow:
    for screen in screens:
        if finding := screen.look_at(problem, place):
            return QuarantinedRow(
                place=place, reason=finding.reason, detail=finding.detail, content=problem.question[:500]
            )
    return problem


def _set_aside(row: Row, reason: str, detail: str) -> QuarantinedRow:
    try:
        content = str(row.fields)[:500].encode(errors="replace").decode()
    except RecursionError:
        content = "(nested too deeply to be shown)"
    return QuarantinedRow(place=row.place, reason=reason, detail=detail, content=content)


def _nothing_usable(config: Problems, intake: Intake) -> str:
    if not intake.quarantined:
        return f"problems.path {config.path!r} holds no rows"
    first = intake.quarantined[0]
    return f"{first.place}: {first.reason}: {first.detail}; none of {intake.num_read} rows was usable"
