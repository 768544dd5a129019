"""Which fields of a file are the question, the solution, the answer, the options or a conversation."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drsft.errors import InputError
from drsft.intake.columns import template_fields, text_of, value_at
from drsft.intake.field_profile import FieldProfile, FieldType, profile_fields
from drsft.intake.roles import Candidate, Role, candidates_for, clear_choice
from drsft.verify.choice.offered import options_of
from drsft.verify.code.program import reference_of_row
from drsft.verify.maths.judge import reference_answer

__all__ = ["FLAGS", "Ask", "FoundColumns", "GivenColumns", "find_columns"]

Ask = Callable[[Role, Sequence[Candidate]], str]
Fields = Mapping[str, Any]

FLAGS: Mapping[Role, str] = {
    Role.QUESTION: "--question",
    Role.DEMONSTRATION: "--solution",
    Role.REFERENCE: "--answer",
    Role.MESSAGES: "--messages",
    Role.OPTIONS: "--options",
}
BY_NAME = 40  # candidates with fewer points are guessed from their content alone
_CONTEXT = {"body", "context", "passage", "input", "story", "article"}
_OPTION_TEXTS = {"options", "choices"}
_CODE_QUESTION = ("text", "prompt", "question", "problem", "description", "instruction")
_CODE_SOLUTION = ("canonical_solution", "code", "solution", "reference_solution", "answer")
_LETTER_FIELD = re.compile(r"(?:(?:option|choice|answer|op)[\s_-]?)?([A-Ha-h]|[1-8])", re.IGNORECASE)
_STATED = re.compile(r"####|\\boxed|answer is|answer:", re.IGNORECASE)
_CHECKED = 100  # rows that are looked at for what they hold


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenColumns:
    """What the user named; None is found."""

    question: str | None = None
    demonstration: str | None = None
    reference: str | None = None
    messages: str | None = None
    options: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundColumns:
    question: str | None  # None: a conversation is asked
    demonstration: str | None  # None: the conversation's last turn
    reference: str
    messages: str | None = None
    has_solutions: bool = True  # whether demonstrations are more than the answer
    is_code: bool = False
    reasons: Mapping[str, str]  # by key of problems.columns


def find_columns(
    rows: Sequence[Fields], given: GivenColumns, ask: Ask, *, answers_needed: bool
) -> FoundColumns:
    """Raises InputError, one line with the flag, where a field is missing or `ask` cannot choose."""
    finder = _Finder(rows, given, ask, answers_needed)
    if given.messages is None and given.question is None and finder.holds_tests():
        return finder.code()
    if finder.is_conversation():
        return finder.conversation()
    return finder.plain()


class _Finder:
    def __init__(self, rows: Sequence[Fields], given: GivenColumns, ask: Ask, answers_needed: bool) -> None:
        self.rows, self.given, self.ask, self.answers_needed = rows[:_CHECKED], given, ask, answers_needed
        self.profiles = profile_fields(rows)
        self.names = ", ".join(one.path for one in self.profiles)
        self.reasons: dict[str, str] = {}

    def holds_tests(self) -> bool:
        found = [reference_of_row(fields, "") for fields in self.rows]
        return sum(one is not None for one in found) * 2 > len(found)

    def is_conversation(self) -> bool:
        if self.given.messages is not None or self.given.question is not None:
            return self.given.messages is not None
        talks, questions = self._candidates(Role.MESSAGES), self._candidates(Role.QUESTION)
        return bool(talks) and (not questions or talks[0].score > questions[0].score)

    def code(self) -> FoundColumns:
        question = self.given.question or self._named(_CODE_QUESTION, Role.QUESTION)
        solution = self.given.demonstration or self._named(_CODE_SOLUTION, Role.DEMONSTRATION)
        first = self.rows[0]
        tests = next((name for name in ("test_list", "tests") if first.get(name)), None)
        self.reasons |= {"question": f"{question} with its tests", "demonstration": "code, in a fenced block"}
        begins = "test" in first  # HumanEval: the solution goes on from the question
        return FoundColumns(
            question=question
            if tests is None
            else f"{{{question}}}\nYour code should pass these tests:\n{{{tests}}}",
            demonstration=f"```python\n{{{question}}}{{{solution}}}\n```"
            if begins
            else f"```python\n{{{solution}}}\n```",
            reference=self.given.reference or "answer",
            is_code=True,
            reasons=self.reasons,
        )

    def conversation(self) -> FoundColumns:
        messages = self.given.messages or self._choose(Role.MESSAGES, self._candidates(Role.MESSAGES))
        turns = self.rows[0] and value_at(self.rows[0], messages)
        if isinstance(turns, list) and turns and isinstance(turns[0], Mapping) and "from" in turns[0]:
            return self._share_gpt(messages)
        answer = f"{messages}[-1].content"
        reference = self.given.reference or self._reference(answer, taken={messages})
        self.reasons["messages"] = "turns with roles; the assistant's last one is the solution"
        return FoundColumns(
            question=None,
            demonstration=self.given.demonstration,
            reference=reference,
            messages=messages,
            reasons=self.reasons,
        )

    def _share_gpt(self, messages: str) -> FoundColumns:
        """Turns of {from, value}: the first of a person, and what follows it."""
        firsts = Counter(_first_asked(value_at(fields, messages)) for fields in self.rows)
        place = firsts.most_common(1)[0][0]
        solution = self.given.demonstration or f"{messages}[{place + 1}].value"
        self.reasons["question"] = "the first turn of a person; later turns are not read"
        return FoundColumns(
            question=f"{messages}[{place}].value",
            demonstration=solution,
            reference=self.given.reference or self._reference(solution, taken={messages}),
            reasons=self.reasons,
        )

    def plain(self) -> FoundColumns:
        question = self.given.question or self._question()
        taken = set(template_fields(question))
        solution = self.given.demonstration or self._solution(taken)
        taken |= set(template_fields(solution)) if solution else set()
        reference = self.given.reference or self._reference(solution, taken=taken - {solution})
        asked = (
            question
            if self.given.question and "{" in question
            else self._whole(question, taken | {reference})
        )
        return FoundColumns(
            question=asked,
            demonstration=solution or reference,
            reference=reference,
            has_solutions=solution is not None,
            reasons=self.reasons,
        )

    def _question(self) -> str:
        every = self._candidates(Role.QUESTION)
        candidates = [one for one in every if one.column.lower() not in _CONTEXT] or every
        if not candidates:
            raise InputError(
                f"no field looks like a question (there are: {self.names:.300}); name it: --question FIELD"
            )
        return self._choose(Role.QUESTION, candidates)

    def _solution(self, taken: set[str]) -> str | None:
        """None where no field holds more than an answer."""
        candidates = [
            one
            for one in self._candidates(Role.DEMONSTRATION, taken)
            if one.score > BY_NAME - 20
            and (self._states_answers(one.column) or not self._is_bare(one.column))
        ]
        return self._choose(Role.DEMONSTRATION, candidates) if candidates else None

    def _reference(self, solution: str | None, *, taken: set[str]) -> str:
        others = taken | ({solution} if solution and not self._states_answers(solution) else set())
        others |= {one.path for one in self.profiles if one.path.lower() in _CONTEXT}
        candidates = self._candidates(Role.REFERENCE, others)
        named = [one for one in candidates if one.score > BY_NAME]
        if named:
            return self._choose(Role.REFERENCE, named)
        if solution is not None and (self._states_answers(solution) or not self.answers_needed):
            self.reasons["reference"] = "the solution, which states its answer"
            return solution
        if candidates:
            return self._choose(Role.REFERENCE, candidates)
        raise InputError(
            f"no field holds a reference answer, and solutions state none (there are: {self.names:.300}); "
            "name it: --answer FIELD, or let a model judge: --kind judge "
            "'rewrite.verification.judge={model: …, url: …}'"
        )

    def _whole(self, question: str, taken: set[str]) -> str:
        """The question behind its context, and above its options, where these have fields of their own."""
        context = next(
            (
                one
                for one in self.profiles
                if one.path.lower() in _CONTEXT
                and one.path not in {*taken, *template_fields(question)}
                and one.type is FieldType.TEXT
                and one.num_filled
            ),
            None,
        )
        whole = question if "{" in question else f"{{{question}}}"
        if context is not None:
            is_below = context.path.lower() == "input"
            whole = f"{whole}\n\n{{{context.path}}}" if is_below else f"{{{context.path}}}\n{whole}"
            self.reasons["question"] = f"{question} with its {context.path}"
        options = self._options(question, taken)
        if options is not None:
            whole = f"{whole}\n{options}"
            self.reasons["question"] = f"{question} with its options, each under a letter"
        return question if whole == f"{{{question}}}" else whole

    def _options(self, question: str, taken: set[str]) -> str | None:
        if self.given.options is not None:
            return f"{{{self.given.options}}}"
        texts = [text_of(fields, question) or "" for fields in self.rows]
        if sum(len(options_of(text)) > 1 for text in texts) * 2 > len(texts):
            return None
        written = [one.path for one in self.profiles if one.path.lower() in _OPTION_TEXTS]
        for path in written:  # a text that lists them, "A) 5 B) 7"
            listed = [text_of(fields, path) or "" for fields in self.rows]
            if sum(len(options_of(text)) > 1 for text in listed) * 2 > len(listed):
                return f"{{{path}}}"
        best = clear_choice(self._candidates(Role.OPTIONS, taken))
        return self._options_beside(taken) if best is None else f"{{{best.column}}}"

    def _options_beside(self, taken: set[str]) -> str | None:
        """Fields called A, B, C, … or option_a, option_b, …, each of them an option."""
        found: dict[str, str] = {}
        for one in self.profiles:
            match = _LETTER_FIELD.fullmatch(one.path)
            if match is not None and one.path not in taken:
                name = match[1].upper()
                found[chr(ord("A") + int(name) - 1) if name.isdigit() else name] = one.path
        letters = sorted(found)
        if len(letters) < 2 or letters != [chr(ord("A") + i) for i in range(len(letters))]:
            return None
        return "\n".join(f"{letter}. {{{found[letter]}}}" for letter in letters)

    def _states_answers(self, column: str) -> bool:
        texts = [text_of(fields, column) or "" for fields in self.rows]
        stated = [bool(_STATED.search(text)) and reference_answer(text) is not None for text in texts]
        return sum(stated) * 5 >= len(stated) * 3

    def _is_bare(self, column: str) -> bool:
        """Whether a field that could be the solution holds short answers."""
        one = next(profile for profile in self.profiles if profile.path == column)
        return one.chars is None or (one.chars.median < 40 and one.chars.p95 < 80)

    def _candidates(self, role: Role, taken: set[str] | None = None) -> list[Candidate]:
        return [one for one in candidates_for(role, self.profiles) if one.column not in (taken or set())]

    def _choose(self, role: Role, candidates: Sequence[Candidate]) -> str:
        best = clear_choice(candidates)
        if best is None:
            return self.ask(role, candidates)
        self.reasons[role.value] = best.reason
        return best.column

    def _named(self, names: Sequence[str], role: Role) -> str:
        by_name: Mapping[str, FieldProfile] = {one.path.lower(): one for one in self.profiles}
        found = next((by_name[name].path for name in names if name in by_name), None)
        if found is None:
            raise InputError(
                f"tests are there, but no field looks like the {role} (there are: {self.names:.300}); "
                f"name it: {FLAGS[role]} FIELD"
            )
        return found


def _first_asked(turns: Any) -> int:
    if not isinstance(turns, list):
        return 0
    names = [one.get("from") if isinstance(one, Mapping) else None for one in turns]
    return next((place for place, name in enumerate(names) if name in ("human", "user")), 0)
