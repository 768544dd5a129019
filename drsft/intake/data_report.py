"""Reports on a data set as a run would read it: fields, columns, lengths, rows set aside."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from drsft.config import Columns, Problems
from drsft.intake.columns import find_column
from drsft.intake.field_profile import FieldProfile, Lengths, lengths_of, profile_fields
from drsft.intake.problems import Intake, problems_of_rows
from drsft.intake.roles import Role, candidates_for
from drsft.intake.rows import BadRow, Row, read_rows
from drsft.policy.prompts import Prompter
from drsft.records import Problem
from drsft.verify.kinds import KINDS

__all__ = ["DataReport", "SetAside", "TextLengths", "report_data"]

PROFILED_ROWS = 1000
MEASURED_PROBLEMS = 2000  # of which tokens are counted, drawn evenly; and of as many as follow, the longest
LONGEST_PROBLEMS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """How many rows were set aside for one reason, with the place and the detail of the first of them."""

    reason: str
    num_rows: int
    place: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLengths:
    """Lengths of one part of the problems, such as "question", in characters, and in tokens if counted."""

    part: str
    chars: Lengths
    tokens: Lengths | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    path: str
    num_read: int
    is_whole: bool  # false: only the first rows were asked for
    num_problems: int
    num_duplicates: int
    set_aside: tuple[SetAside, ...]
    fields: tuple[FieldProfile, ...]  # of the first rows
    taken: dict[str, dict[str, int]]  # role -> the columns taken for it, with the rows of each
    kinds: dict[str, int]
    lengths: tuple[TextLengths, ...]
    num_measured: int  # the problems whose tokens were counted
    first: Problem | None
    options: str | None  # a field that looks like options and that no template shows


@dataclass(slots=True)
class _Passing:
    """Passes rows on: counts them before they are checked, and keeps the first ones to describe their
    fields.
    """

    names: Mapping[str, Sequence[str]]  # of the columns by role
    on_row: Callable[[int], None]
    num_rows: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)
    taken: dict[str, Counter[str]] = field(default_factory=dict)

    def __call__(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        for row in rows:
            self.num_rows += 1
            if isinstance(row, Row):
                self._note(row.fields)
            self.on_row(self.num_rows)
            yield row

    def _note(self, fields: dict[str, Any]) -> None:
        if len(self.first) < PROFILED_ROWS:
            self.first.append(fields)
        for role, names in self.names.items():
            column = find_column(fields, names)
            if column is not None:
                self.taken.setdefault(role, Counter())[column] += 1


def _names(columns: Columns) -> dict[str, Sequence[str]]:
    named: dict[str, str | None] = {"messages": columns.messages, "kind": columns.kind}
    others = {role: [name] for role, name in named.items() if name is not None}
    question = {} if columns.messages is not None else {"question": columns.candidates("question")}
    solution, answer = columns.candidates("demonstration"), columns.candidates("reference")
    return {**question, "demonstration": solution, "reference": answer, **others}


def report_data(
    problems: Problems,
    *,
    prompter: Prompter | None = None,
    max_model_len: int | None = None,
    max_rows: int | None = None,
    needs_demonstration: bool = True,
    kinds: Collection[str] = KINDS,
    on_row: Callable[[int], None] = lambda num_rows: None,
) -> DataReport:
    """Returns the report on all rows, or on the first `max_rows`.

    Tokens are counted if a `prompter` is given. `on_row` is called with the number of rows read so far. The
    other arguments are those of `read_problems`. Raises InputError if the data cannot be read.
    """
    passing, intake, drawn = _Passing(_names(problems.columns), on_row), Intake(), _Drawn()
    rows = passing(islice(read_rows(problems), max_rows))
    found = problems_of_rows(
        rows,
        problems,
        intake,
        prompter=prompter,
        max_model_len=max_model_len,
        needs_demonstration=needs_demonstration,
        kinds=kinds,
    )
    by_kind: Counter[str] = Counter()
    for problem in found:
        by_kind[problem.kind] += 1
        drawn.add(problem)
    profiles = profile_fields(passing.first, max_rows=PROFILED_ROWS)
    return DataReport(
        path=problems.path,
        num_read=intake.num_read,
        is_whole=max_rows is None or intake.num_read < max_rows,
        num_problems=by_kind.total(),
        num_duplicates=intake.num_duplicates,
        set_aside=_set_aside(intake),
        fields=tuple(profiles),
        taken={role: dict(columns.most_common()) for role, columns in passing.taken.items()},
        kinds=dict(by_kind.most_common()),
        lengths=_lengths(drawn, prompter),
        num_measured=len(drawn.measured) if prompter is not None else 0,
        first=drawn.first,
        options=_unshown_options(problems.columns, profiles),
    )


@dataclass(slots=True)
class _Drawn:
    """A uniform sample of the problems, the longest of all, and the lengths of all texts."""

    num_seen: int = 0
    first: Problem | None = None
    even: list[Problem] = field(default_factory=list)
    longest: list[tuple[int, int, Problem]] = field(default_factory=list)
    chars: dict[str, Counter[int]] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, problem: Problem) -> None:
        self.first = self.first or problem
        self.num_seen += 1
        for part, text in _parts(problem).items():
            self.chars.setdefault(part, Counter())[len(text)] += 1
        place = self.dice.randrange(self.num_seen)
        if len(self.even) < MEASURED_PROBLEMS:
            self.even.append(problem)
        elif place < MEASURED_PROBLEMS:
            self.even[place] = problem
        length = len(problem.whole_question) + len(problem.demonstration)
        keep = heapq.heappush if len(self.longest) < LONGEST_PROBLEMS else heapq.heappushpop
        keep(self.longest, (length, self.num_seen, problem))

    @property
    def measured(self) -> list[Problem]:
        others = {one.problem_id for one in self.even}
        return [*self.even, *(one for *_, one in self.longest if one.problem_id not in others)]


def _parts(problem: Problem) -> dict[str, str]:
    """Returns the texts whose lengths are reported, by name."""
    question, solution = problem.whole_question, problem.demonstration
    return {
        "question": question,
        "solution": solution,
        "both": f"{question}{solution}",
        "reference": problem.reference,
    }


def _lengths(drawn: _Drawn, prompter: Prompter | None) -> tuple[TextLengths, ...]:
    tokens: dict[str, list[int]] = {}
    for problem in drawn.measured if prompter is not None else ():
        assert prompter is not None
        prompt, solution = len(prompter.plain(problem)), len(prompter.completion(problem.demonstration))
        for part, count in {"question": prompt, "solution": solution, "both": prompt + solution}.items():
            tokens.setdefault(part, []).append(count)
    found = []
    for part, counts in drawn.chars.items():
        chars = lengths_of(sorted(counts.elements()))
        if chars is not None and chars.max:
            found.append(TextLengths(part=part, chars=chars, tokens=lengths_of(tokens.get(part, []))))
    return tuple(found)


def _set_aside(intake: Intake) -> tuple[SetAside, ...]:
    firsts = {row.reason: row for row in reversed(intake.quarantined)}
    return tuple(
        SetAside(reason=reason, num_rows=count, place=firsts[reason].place, detail=firsts[reason].detail)
        for reason, count in intake.reasons.items()
    )


def _unshown_options(columns: Columns, profiles: list[FieldProfile]) -> str | None:
    options = candidates_for(Role.OPTIONS, profiles)
    shown = " ".join(columns.candidates("question"))
    return options[0].column if options and f"{{{options[0].column}" not in shown else None
