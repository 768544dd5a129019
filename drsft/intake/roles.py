"""Guesses which field is the question, the solution, the answer, the options or a conversation, with reasons.

A person should confirm the guess. Names that data sets use count more than what the values look like.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from drsft.intake.field_profile import FieldProfile, FieldType

__all__ = ["CLEAR_LEAD", "Candidate", "Role", "candidates_for", "clear_choice"]


class Role(StrEnum):
    """What a field can give to a problem; the values are the keys of problems.columns, except for options."""

    QUESTION = "question"
    DEMONSTRATION = "demonstration"
    REFERENCE = "reference"
    MESSAGES = "messages"
    OPTIONS = "options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A field that could have a role; a higher score fits better."""

    column: str
    score: int
    reason: str


# The names that data sets give, the commonest first, without case, spaces, hyphens and underscores.
_NAMES: Mapping[Role, Sequence[str]] = {
    Role.QUESTION: (
        *("problem", "question", "query", "instruction", "prompt", "problemstatement", "questiontext"),
        *("exercise", "task", "input", "statement", "stem", "ques", "q", "frage", "aufgabe", "pregunta"),
        *("sentence", "goal", "ctx", "content", "text", "turns", "human", "énoncé", "pergunta", "domanda"),
        *("题目", "问题", "問題", "вопрос", "aufgabenstellung", "fragestellung", "übung"),
    ),
    Role.DEMONSTRATION: (
        *("solution", "rationale", "explanation", "generatedsolution", "cot", "chainofthought", "reasoning"),
        *("response", "output", "completion", "solutiontext", "workedsolution", "canonicalsolution", "proof"),
        *("steps", "answer", "solutions", "chosen", "exp"),
        *("lösung", "loesung", "rechenweg", "solución", "解析", "解答", "решение", "assistant"),
        *("lösungsweg", "erklärung", "begründung", "why"),
    ),
    Role.REFERENCE: (
        *("answer", "finalanswer", "expectedanswer", "groundtruth", "target", "label", "correctanswer"),
        *("correct", "answerkey", "gold", "goldanswer", "reference", "referenceanswer", "answeridx"),
        *(
            "answerindex",
            "correctoption",
            "correctchoice",
            "correctindex",
            "cop",
            "result",
            "ideal",
            "golden",
        ),
        *("numericanswer", "ans", "a", "antwort", "ergebnis", "respuesta", "réponse", "resposta"),
        *("risposta", "答案", "ответ", "solutions", "solution", "answers", "final"),
    ),
    Role.MESSAGES: ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns"),
    Role.OPTIONS: ("options", "choices", "candidates", "endings"),
}
_TEXTUAL = {FieldType.TEXT, FieldType.BYTES}
_ANSWERS = {
    *_TEXTUAL,
    FieldType.NUMBER,
    FieldType.BOOLEAN,
    FieldType.DATE,
    FieldType.TEXTS,
    FieldType.NUMBERS,
}
_TYPES: Mapping[Role, set[FieldType]] = {
    Role.QUESTION: {*_TEXTUAL, FieldType.TEXTS},
    Role.DEMONSTRATION: {*_TEXTUAL, FieldType.TEXTS},
    Role.REFERENCE: _ANSWERS,
    Role.MESSAGES: {FieldType.CONVERSATION},
    Role.OPTIONS: {FieldType.TEXTS, FieldType.NUMBERS, FieldType.OBJECTS},
}
_TEXT_OF_OBJECT = {"text", "content", "value", "body"}
MIN_FILL = 0.5
CLEAR_LEAD = 8  # lead in points with which the best is chosen without asking
MIN_RANK = 50  # of a known name, however late it comes in its list
WITHIN_PENALTY = 20  # for a name that has more words than its role's
MAX_NAME_WORDS = 8
_OTHER_WORDS = re.compile(
    r"id|idx|index|type|kind|source|url|number|no|count|concept|date|time|author|by|is|valid|wrong|incorrect"
    r"|rejected|original|format|length|level|input|test|tests|pred|prediction|predicted|model|student"
)
MANY_ROWS = 20  # in which no role's field is the same throughout
SHORT_ANSWER = 60  # characters
LONG_TEXT = 80
_STATES_ANSWER = re.compile(r"####|\\boxed|answer is", re.IGNORECASE)
# Fields that hold the context of a question.
_CONTEXT = (
    "body",
    "context",
    "passage",
    "story",
    "scenario",
    "background",
    "premise",
    "paragraph",
    "article",
)
_NO_CONTENT = re.compile(
    r"(?:^|[._])(?:id|uuid|idx|index|url|source|split|subject|level|type|category|entry_point|name|title|topic"
    r"|difficulty|file|filename|path|tags?|domain|language|year|date|created|author|upload)$"
    r"|(?:^|[._])(?:is|has)_|[a-z](?-i:Id|ID|Index)$",
    re.IGNORECASE,
)


def candidates_for(role: Role, profiles: Iterable[FieldProfile]) -> list[Candidate]:
    """Returns the fields that could have the role, the most likely first."""
    every = list(profiles)
    by_letter = list(_by_letters(every))
    options = tuple(f"{one.column}." for one in by_letter)
    fields = [
        one
        for one in every
        if not one.path.startswith(options) and (role is Role.DEMONSTRATION or not one.is_of_first_object)
    ]
    found = [*_by_name(role, fields), *_by_content(role, fields)]
    if role is Role.OPTIONS:
        found += by_letter
    if role is Role.QUESTION:
        found = [*found, *_with_context(found, fields)]
    best: dict[str, Candidate] = {}
    for candidate in sorted(found, key=lambda one: -one.score):
        best.setdefault(candidate.column, candidate)
    return list(best.values())


def clear_choice(candidates: Sequence[Candidate]) -> Candidate | None:
    """Returns the first candidate if its score is clearly the best; else None, as for no candidates."""
    if not candidates or (len(candidates) > 1 and candidates[0].score - candidates[1].score < CLEAR_LEAD):
        return None
    return candidates[0]


def _by_name(role: Role, fields: Sequence[FieldProfile]) -> Iterator[Candidate]:
    names = _NAMES[role]
    for one in fields:
        if one.type not in _TYPES[role] or one.fill < MIN_FILL:
            continue
        name, called = _known_name(one, names), "has a usual name"
        within = 0
        if name is None:
            name, called, within = _name_within(one, names), "has a usual word in its name", WITHIN_PENALTY
        penalty = None if name is None else _penalty(role, one, name)
        if name is not None and penalty is not None:
            rank = max(MIN_RANK, 100 - 2 * names.index(name))
            score = rank - 5 * one.path.count(".") - penalty - within
            is_list = role is not Role.REFERENCE and one.type is FieldType.TEXTS and role is not Role.OPTIONS
            column = _of_list(one.path, name) if is_list else one.path
            yield Candidate(column=column, score=score, reason=f"{called} and holds {_described(one)}")


def _word(one: FieldProfile) -> str:
    return re.sub(r"[\W_]+", "", one.path.rpartition(".")[2].lower())


def _known_name(one: FieldProfile, names: Sequence[str]) -> str | None:
    """Returns the field's name if it is a known one, also after a letter for its type (sQuestion).

    A text of an object in a list can take its name from the list (solutions[0].text).
    """
    words = [_word(one)]
    if one.is_of_first_object and words[0] in _TEXT_OF_OBJECT:
        words.append(re.sub(r"[\W_]+", "", one.path.partition("[0].")[0].rpartition(".")[2].lower()))
    return next(
        (name for name in names for word in words if word == name or (len(name) > 3 and word[1:] == name)),
        None,
    )


def _of_list(path: str, name: str) -> str:
    """Returns the column setting for a list: all steps of a solution, or the first of several solutions or
    turns.
    """
    return f"{{{path}}}" if name == "steps" else f"{path}[0]"


def _name_within(one: FieldProfile, names: Sequence[str]) -> str | None:
    """Returns the known name that a longer one contains, as in "Question text" or "Full worked solution"."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", one.path.rpartition(".")[2]).lower())
    if (
        not 1 < len(words) <= MAX_NAME_WORDS
        or any(map(_OTHER_WORDS.fullmatch, words))
        or one.num_distinct < 2
    ):
        return None
    return next((name for name in names if len(name) > 3 and name in (words[0], words[-1])), None)


def _penalty(role: Role, one: FieldProfile, name: str) -> int | None:
    """Returns what to subtract from the score if the values look unusual for the role.

    None means that the field cannot have the role.
    """
    if one.chars is None:
        return 0
    is_long = one.chars.median > LONG_TEXT
    if role is Role.REFERENCE and is_long and not _STATES_ANSWER.search(one.example):
        return None if name.startswith("solution") else 40
    if role is Role.DEMONSTRATION and name == "answer" and not is_long:
        return None
    if role is Role.QUESTION and one.num_distinct < 2 and "?" not in one.example:
        return None if one.num_filled >= MANY_ROWS else 20
    return 20 if role is Role.QUESTION and one.num_distinct * 4 < one.num_filled else 0


def _with_context(questions: Sequence[Candidate], fields: Sequence[FieldProfile]) -> Iterator[Candidate]:
    """Yields templates of a question after its context, and of an instruction with its input."""
    texts = {_word(one): one.path for one in fields if one.type in _TEXTUAL and one.num_filled}
    for question in questions:
        others = [texts[name] for name in _CONTEXT if name in texts and texts[name] != question.column]
        if others:
            column = f"{{{others[0]}}}\n{{{question.column}}}"
            reason = f"is the question, shown after the field {others[0]!r}"
            yield Candidate(column=column, score=question.score + CLEAR_LEAD, reason=reason)
        elif question.column == texts.get("instruction") and "input" in texts:
            column = f"{{{question.column}}}\n{{{texts['input']}}}"
            reason = "is the instruction with its input"
            yield Candidate(column=column, score=question.score + 2 * CLEAR_LEAD, reason=reason)


def _by_content(role: Role, fields: Sequence[FieldProfile]) -> Iterator[Candidate]:
    for one in fields:
        if one.type not in _TYPES[role] or one.fill < MIN_FILL or _NO_CONTENT.search(one.path):
            continue
        if one.num_distinct < 2 and one.num_filled >= MANY_ROWS:
            continue
        looks = _looks_like(role, one)
        if looks is not None:
            score = 30 - 5 * one.path.count(".")
            yield Candidate(column=one.path, score=score, reason=f"{looks} and holds {_described(one)}")


def _looks_like(role: Role, one: FieldProfile) -> str | None:
    median = one.chars.median if one.chars else 0
    is_varied = one.num_distinct * 2 > one.num_filled
    match role:
        case Role.MESSAGES:
            return "has turns with roles"
        case Role.QUESTION if is_varied and "?" in one.example and median > 10:
            return "asks something"
        case Role.DEMONSTRATION if is_varied and median > LONG_TEXT and _STATES_ANSWER.search(one.example):
            return "states an answer at some length"
        case Role.REFERENCE if 0 < median <= SHORT_ANSWER and "?" not in one.example:
            return "is short"
        case _:
            return None


def _by_letters(fields: Sequence[FieldProfile]) -> Iterator[Candidate]:
    """Yields options: an object with a member for each letter, or parallel lists of labels and texts."""
    by_parent: dict[str, set[str]] = {}
    for one in fields:
        if one.is_of_first_object:
            continue
        parent, _, name = one.path.rpartition(".")
        by_parent.setdefault(parent, set()).add(name)
    for parent, names in by_parent.items():
        if parent and ({"A", "B"} <= names or {"label", "text"} <= names):
            yield Candidate(column=parent, score=90, reason="has an option for each letter")


def _described(one: FieldProfile) -> str:
    filled = "every row" if one.num_filled == one.num_rows else f"{one.fill:.0%} of the rows"
    length = ""
    if one.chars is not None and one.type in _TEXTUAL:
        length = f" of {one.chars.median:,} character{'' if one.chars.median == 1 else 's'}"
    return f"{one.type}{length} in {filled}"
