"""Finds which fields of a file are the question, the solution, the answer, the options or a conversation."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drsft.errors import InputError
from drsft.intake.columns import template_fields, text_of
from drsft.intake.field_profile import FieldProfile, FieldType
from drsft.intake.roles import CLEAR_LEAD, Candidate, Role, candidates_for, clear_choice
from drsft.setup.found_options import option_fields, options_template
from drsft.setup.row_texts import RowTexts
from drsft.verify.code.program import reference_of_row
from drsft.verify.kinds import KINDS

__all__ = ["FLAGS", "Ask", "FoundColumns", "GivenColumns", "find_columns", "likeliest"]

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
_CONTEXT = {"body", "context", "passage", "input", "story", "article", "text"}
_CODE_QUESTION = ("text", "prompt", "question", "problem", "description", "instruction")
_CODE_SOLUTION = ("canonical_solution", "code", "solution", "reference_solution", "answer")
_KIND_FIELDS = {"kind", "verifier", "verifier_kind", "grader", "answer_type"}
_WORDS = re.compile(r"[^\\$=]*[^\W\d_]{2}[^\\$=]*")  # no formula
_PROGRAM_TESTS = {"input_output", "test_cases", "public_tests", "private_tests", "public_test_cases"}
_COMPLETIONS = ("completion", "chosen", "response")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenColumns:
    """The columns that the user named; those that are None are still to be found."""

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
    kind: str | None = None  # a field that names each row's verifier
    is_code: bool = False
    reasons: Mapping[str, str]  # by key of problems.columns


def likeliest(role: Role, candidates: Sequence[Candidate]) -> str:
    """Returns the column of the first candidate, the most likely one: an `Ask` that does not ask the user."""
    return candidates[0].column


def find_columns(
    rows: Sequence[Fields], given: GivenColumns, ask: Ask, *, answers_needed: bool
) -> FoundColumns:
    """Returns the fields of question, solution, answer or conversation, with the reasons for the choice.

    `ask` is called when no candidate is clearly the best. With `answers_needed`, solutions are taken as
    references only if they state their answers. Raises InputError, whose one line names the flag to set, if
    a field is missing.
    """
    finder = _Finder(rows, given, ask, answers_needed)
    if given.messages is None and given.question is None and finder.holds_tests():
        return finder.code()
    finder.refuse_tests_of_programs()
    if finder.is_conversation():
        return finder.conversation()
    return finder.plain()


class _Finder:
    def __init__(self, rows: Sequence[Fields], given: GivenColumns, ask: Ask, answers_needed: bool) -> None:
        self.texts, self.given, self.ask, self.answers_needed = RowTexts(rows), given, ask, answers_needed
        self.names = ", ".join(one.path for one in self.texts.profiles)
        self.reasons: dict[str, str] = {}

    def holds_tests(self) -> bool:
        found = [reference_of_row(fields, "") for fields in self.texts.rows]
        return sum(one is not None for one in found) * 2 > len(found)

    def refuse_tests_of_programs(self) -> None:
        """Raises InputError for references that test a program by input and output, which kind code does not
        run.
        """
        names = [one.path for one in self.texts.profiles if one.path.lower() in _PROGRAM_TESTS]
        if names and self.given.reference is None:
            raise InputError(
                f"field {names[0]!r} has tests of a program's input and output, which the verifier kind code "
                "does not run (docs/verification.md); name another reference: --answer FIELD"
            )

    def is_conversation(self) -> bool:
        if self.given.messages is not None or self.given.question is not None:
            return self.given.messages is not None
        talks, questions = self._candidates(Role.MESSAGES), self._candidates(Role.QUESTION)
        if not talks or not questions or talks[0].score > questions[0].score:
            return bool(talks)
        others = self._candidates(Role.DEMONSTRATION, set(template_fields(questions[0].column)))
        return not others and self.texts.end_with_answers(talks[0].column)

    def code(self) -> FoundColumns:
        question = self.given.question or self._named(_CODE_QUESTION, Role.QUESTION)
        solution = self.given.demonstration or self._named(_CODE_SOLUTION, Role.DEMONSTRATION)
        first = self.texts.rows[0]
        tests = next((name for name in ("test_list", "tests") if first.get(name)), None)
        self.reasons |= {"question": f"{question} with its tests", "demonstration": "code, in a fenced block"}
        begins = "entry_point" in first  # HumanEval: the solution continues the question
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
        talks = self._candidates(Role.MESSAGES)
        messages = self.given.messages or self._choose(Role.MESSAGES, talks)
        last = (
            f"{messages}[-1].content"
            if self.texts.has(f"{messages}[-1].content")
            else f"{messages}[-1].value"
        )
        solution, reason = self.given.demonstration, "turns with roles"
        if solution is None and not self.texts.end_with_answers(messages):
            solution = self._answering_turn(taken=messages) or self._solution({messages})
        else:
            reason += "; the assistant's last one is the solution"
        self.reasons["messages"] = reason
        reference = self.given.reference or self._reference(solution or last, taken={messages})
        is_answered = solution is not None or self.texts.end_with_answers(messages)
        return FoundColumns(
            question=None,
            demonstration=solution if is_answered else reference,
            reference=reference,
            messages=messages,
            kind=self._kind(),
            has_solutions=is_answered,
            reasons=self.reasons,
        )

    def _answering_turn(self, *, taken: str) -> str | None:
        """Returns the column of the completion if that is a list of one turn beside the prompt's list of
        turns.
        """
        for name in _COMPLETIONS:
            one = next((one for one in self.texts.profiles if one.path == name != taken), None)
            if (
                one is not None
                and one.type is FieldType.CONVERSATION
                and self.texts.has(f"{name}[-1].content")
            ):
                self.reasons["demonstration"] = f"the last turn of {name!r}"
                return f"{name}[-1].content"
        return None

    def _kind(self) -> str | None:
        """Returns a field that names a known verifier in every row that has it."""
        named = [one.path for one in self.texts.profiles if one.path.lower() in _KIND_FIELDS]
        for name in named:
            values = {text_of(fields, name) for fields in self.texts.rows} - {None}
            if values and values <= KINDS.keys():
                self.reasons["kind"] = f"it names verifiers: {', '.join(sorted(map(str, values)))}"
                return name
        return None

    def plain(self) -> FoundColumns:
        question = self.given.question or self._question()
        taken = set(template_fields(question))
        solution = self.given.demonstration or self._solution(taken)
        taken |= set(template_fields(solution)) if solution else set()
        reference = self.given.reference or self._reference(solution, taken=taken - {solution})
        asked = (
            question
            if self.given.question and "{" in question
            else self._whole(question, taken | {reference}, reference)
        )
        return FoundColumns(
            question=asked,
            demonstration=solution or reference,
            reference=reference,
            has_solutions=solution is not None,
            kind=self._kind(),
            reasons=self.reasons,
        )

    def _question(self) -> str:
        every = self._candidates(Role.QUESTION)
        candidates = [one for one in every if one.column.lower() not in _CONTEXT] or every
        candidates = [one for one in candidates if one.score > BY_NAME or self.texts.ask(one.column)]
        if not candidates:
            has_rows_within = any(one.type is FieldType.OBJECTS for one in self.texts.profiles)
            others = ", or the key that holds the rows: problems.reading.rows=KEY" * has_rows_within
            raise InputError(
                f"no field looks like a question (the fields are {self.names:.300}); "
                f"name it: --question FIELD{others}"
            )
        return self._without_repeats(self._choose(Role.QUESTION, candidates))

    def _without_repeats(self, question: str) -> str:
        """Returns the template's last field alone if its texts already contain those of the other fields."""
        *others, last = template_fields(question)
        return last if others and all(self.texts.hold(last, other) for other in others) else question

    def _solution(self, taken: set[str]) -> str | None:
        """Returns the column of the solutions; None if no field holds more than an answer."""
        candidates = [
            one
            for one in self._candidates(Role.DEMONSTRATION, taken)
            if one.score > BY_NAME - 20
            and (self.texts.state_answers(one.column) or not self._is_bare(one.column))
        ]
        return self._one_text(self._choose(Role.DEMONSTRATION, candidates)) if candidates else None

    def _one_text(self, column: str) -> str:
        """Returns a column setting for one text: the first of several solutions, or all lines of one
        solution.
        """
        if not any(one.path == column and one.type is FieldType.TEXTS for one in self.texts.profiles):
            return column
        first = f"{column}[0]"
        return first if self.texts.state_answers(first) else f"{{{column}}}"

    def _reference(self, solution: str | None, *, taken: set[str]) -> str:
        others = taken | ({solution} if solution and not self.texts.state_answers(solution) else set())
        others |= {one.path for one in self.texts.profiles if one.path.lower() in _CONTEXT}
        others |= {*option_fields(self.texts, taken)}
        candidates = self._candidates(Role.REFERENCE, others)
        letters = [one for one in candidates if self.texts.are_letters(one.column)]
        if len(letters) == 1 and letters[0].score < BY_NAME:
            self.reasons["reference"] = "is a letter in every row"
            return letters[0].column
        chosen = self._chosen_reference(solution, candidates)
        return self._first_of_list(chosen) or chosen

    def _first_of_list(self, column: str) -> str | None:
        """Returns the list's first element if lists have only one, or hold words, which are taken for one
        answer.
        """
        values = self.texts.values(column)
        lists = [one for one in values if isinstance(one, list) and one]
        if len(lists) * 2 < len(values):
            return None
        are_single = all(len(one) == 1 for one in lists)
        texts = [str(text) for one in lists for text in one]
        are_words = sum(_WORDS.fullmatch(text) is not None for text in texts) * 10 > len(texts) * 8
        if are_words and not are_single:
            self.reasons["reference"] = "the first of several texts, taken for the same answer in other words"
        return f"{column}[0]" if are_single or are_words else None

    def _chosen_reference(self, solution: str | None, candidates: Sequence[Candidate]) -> str:
        named = [one for one in candidates if one.score > BY_NAME]
        if named:
            return self._choose(Role.REFERENCE, named)
        if solution is not None and (self.texts.state_answers(solution) or not self.answers_needed):
            self.reasons["reference"] = "the solution, which states its answer"
            return solution
        if candidates:
            return self._choose(Role.REFERENCE, candidates)
        raise InputError(
            "no field has a reference answer, and the solutions state none; the fields are "
            f"{self.names:.300}; name the answer's with --answer FIELD, or let a model judge: --kind judge "
            "'rewrite.verification.judge={model: …, url: …}'"
        )

    def _whole(self, question: str, taken: set[str], reference: str) -> str:
        """Returns a template that puts the context before the question and the options after it, if they have
        fields of their own.
        """
        context = next(
            (
                one
                for one in self.texts.profiles
                if one.path.lower() in _CONTEXT
                and one.path not in {*taken, *template_fields(question)}
                and one.type is FieldType.TEXT
                and one.num_filled
                and not self.texts.hold(question, one.path)
                and not self.texts.hold(one.path, question)  # the whole prompt once more
            ),
            None,
        )
        whole = question if "{" in question else f"{{{question}}}"
        if context is not None:
            is_below = context.path.lower() == "input"
            whole = f"{whole}\n\n{{{context.path}}}" if is_below else f"{{{context.path}}}\n{whole}"
            self.reasons["question"] = f"{question} with its {context.path}"
        options = (
            options_template(self.texts, question, reference, taken)
            if self.given.options is None
            else f"{{{self.given.options}}}"
        )
        if options is not None:
            whole = f"{whole}\n{options}"
            self.reasons["question"] = f"{question} with its options, each under a letter"
        return question if whole == f"{{{question}}}" else whole

    def _is_bare(self, column: str) -> bool:
        """Returns whether a possible solution field holds only short answers, no longer than those of an
        answer field.
        """
        named = [
            one.column
            for one in self._candidates(Role.REFERENCE, {column})
            if one.score > BY_NAME and not self.texts.are_letters(one.column)
        ]
        if named and self.texts.hold(column, named[0]) and not self.texts.hold(named[0], column):
            return False
        return self.texts.are_short(column)

    def _candidates(self, role: Role, taken: set[str] | None = None) -> list[Candidate]:
        found = [
            one for one in candidates_for(role, self.texts.profiles) if one.column not in (taken or set())
        ]
        return (
            found
            if role is not Role.MESSAGES
            else [one for one in found if self.texts.are_conversations(one.column)]
        )

    def _choose(self, role: Role, candidates: Sequence[Candidate]) -> str:
        best = clear_choice(candidates) or self._first_of_series(candidates)
        if best is None:
            return self.ask(role, candidates)
        self.reasons[role.value] = best.reason
        return best.column

    def _first_of_series(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Returns the first of equally good fields whose names differ in a number: solution_1, solution_2."""
        alike = [one for one in candidates if candidates[0].score - one.score < CLEAR_LEAD]
        stems = {re.sub(r"\d+$", "", one.column) for one in alike}
        return min(alike, key=lambda one: (len(one.column), one.column)) if len(stems) == 1 else None

    def _named(self, names: Sequence[str], role: Role) -> str:
        by_name: Mapping[str, FieldProfile] = {one.path.lower(): one for one in self.texts.profiles}
        found = next((by_name[name].path for name in names if name in by_name), None)
        if found is None:
            raise InputError(
                f"the rows have tests, but no field looks like the {role} (the fields are "
                f"{self.names:.300}); name it: {FLAGS[role]} FIELD"
            )
        return found
