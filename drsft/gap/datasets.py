"""Reads a user's own rows as texts to score, in any format of the intake and with the usual column names.

A row's prompt is one of these: `messages` (or the column that `columns.messages` names) before the
assistant's last turn; `prompt` (the user's turn, unchanged, or a list of turns); or the question's column,
put into the configuration's plain prompt. A list of turns is rendered unchanged. The row's text is the last
turn of the list if that is the assistant's, or `completion` (or `chosen`, a text or a list of turns), or the
demonstration's column. A row with a completion and a demonstration gives both: the text to train on, and the
one that it would replace.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drsft.config import Columns, Problems, Prompts
from drsft.errors import InputError, ModelError
from drsft.gap.scored_texts import Role, Text
from drsft.intake.columns import find_column, text_of, unpacked, value_at
from drsft.intake.messages import UnusableConversation, read_conversation
from drsft.intake.rows import BadRow, Row, read_rows
from drsft.policy.prompts import Prompter
from drsft.records import Problem, Source

__all__ = ["ReadCounts", "read_texts", "texts_of_rows"]

COMPLETIONS = ("completion", "chosen", "response")
OWN_ROWS = "data"  # the source of rows that name none


@dataclass(slots=True, kw_only=True)
class ReadCounts:
    """Counts of the rows read so far, and of those set aside by reason.

    `first` says where the first unusable row is and why it was set aside.
    """

    num_read: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def put_aside(self, place: str, reason: str, detail: str = "") -> None:
        self.set_aside[reason] += 1
        self.first = self.first or f"{place}: {reason}{detail and f': {detail}'}"


def read_texts(
    problems: Problems, reading: ReadCounts, *, prompter: Prompter, max_model_len: int
) -> Iterator[list[Text]]:
    """Yields, row after row, the list of texts of each usable row, and updates `reading` on the way.

    It stops after `problems.limit` usable rows. Raises InputError naming file, row and column if no row is
    usable.
    """
    rows = texts_of_rows(
        read_rows(problems), problems.columns, reading, prompter=prompter, max_model_len=max_model_len
    )
    num_usable = 0
    for texts in rows:
        num_usable += 1
        yield texts
        if problems.limit is not None and num_usable >= problems.limit:
            return
    if not num_usable:
        raise InputError(
            f"{reading.first or f'{problems.path} has no rows'}; none of {reading.num_read} rows was "
            "usable (a row needs problem, prompt or messages, and completion or solution)"
        )


def texts_of_rows(
    rows: Iterable[Row | BadRow],
    columns: Columns,
    reading: ReadCounts,
    *,
    prompter: Prompter,
    max_model_len: int,
) -> Iterator[list[Text]]:
    """Yields the texts of each usable row of `rows`, as `read_texts` does."""
    for row in rows:
        reading.num_read += 1
        texts = _texts_of(row, columns, reading, prompter)
        if not texts:
            continue
        if max(len(text.prompt_ids) + len(text.completion_ids) for text in texts) > max_model_len:
            reading.put_aside(row.place, "too long for the model", f"more than {max_model_len} tokens")
            continue
        yield texts


def _texts_of(row: Row | BadRow, columns: Columns, reading: ReadCounts, prompter: Prompter) -> list[Text]:
    """Returns the texts of a row; none if the row is set aside, with the reason counted in `reading`."""
    if isinstance(row, BadRow):
        reading.put_aside(row.place, row.kind, row.reason)
        return []
    try:
        found = _prompt_and_answer(row.fields, columns, prompter)
        if isinstance(found, UnusableConversation):
            reading.put_aside(row.place, found.reason, found.detail)
            return []
        prompt_ids, answer = found
        texts = _completions(row.fields, columns, answer)
        if prompt_ids is not None and texts:
            return _scored(row, prompt_ids, texts, prompter)
        missing = "no prompt" if prompt_ids is None else "no completion"
        reading.put_aside(row.place, missing, f"it has {', '.join(map(str, row.fields))}")
    except InputError as error:
        reading.put_aside(row.place, "unclosed thought", str(error))
    except ModelError as error:
        reading.put_aside(row.place, "refused by the chat template", str(error))
    return []


def _scored(
    row: Row, prompt_ids: tuple[int, ...], texts: list[tuple[Role, str, str]], prompter: Prompter
) -> list[Text]:
    row_id = str(row.fields.get("problem_id") or row.fields.get("id") or row.place.rpartition("/")[2])
    return [
        Text(
            row_id=row_id,
            role=role,
            source=source,
            prompt_ids=prompt_ids,
            completion_ids=prompter.completion(text),
        )
        for role, source, text in texts
    ]


def _prompt_and_answer(
    fields: dict[str, Any], columns: Columns, prompter: Prompter
) -> tuple[tuple[int, ...] | None, str | None] | UnusableConversation:
    """Returns the prompt, and the assistant's answer if the row's conversation ends with its turn."""
    turns = value_at(fields, columns.messages or "messages")
    if not turns:
        turns = unpacked(fields.get("prompt"))
        if isinstance(turns, str):
            prompt = _verbatim(prompter, prompter.prompts.system) if turns.strip() else None
            return (None if prompt is None else prompt.plain(_question(turns))), None
    if not turns:
        question = _first_text(fields, columns.candidates("question"))
        return (None if question is None else prompter.plain(_question(question))), None
    found = read_conversation(turns, keeps_thought=prompter.turn.thought is not None)
    if isinstance(found, UnusableConversation):
        return found
    problem = replace(_question(found.question), earlier=found.earlier)
    return _verbatim(prompter, None).plain(problem), found.answer


def _verbatim(prompter: Prompter, system: str | None) -> Prompter:
    return prompter.under(Prompts(system=system, plain="{question}"))


def _question(text: str) -> Problem:
    return Problem(problem_id="", question=text, demonstration="", reference="")


def _completions(fields: dict[str, Any], columns: Columns, answer: str | None) -> list[tuple[Role, str, str]]:
    """Returns role, source and text of each completion of a row; nothing if a text is empty."""
    completion = answer
    for name in COMPLETIONS:
        completion = completion or _completion(fields, name)
    demonstration = _first_text(fields, columns.candidates("demonstration"))
    source = _first_text(fields, ("source",))
    if completion is None:
        return [(Role.KEPT, source or Source.EXPERT.value, demonstration)] if demonstration else []
    texts = [(Role.KEPT, source or OWN_ROWS, completion)]
    if demonstration is not None:
        texts.append((Role.DEMONSTRATION, Source.EXPERT.value, demonstration))
    return texts


def _completion(fields: dict[str, Any], name: str) -> str | None:
    """Returns a text field, or the text of the last turn in a list of turns."""
    return _first_text(fields, (f"{name}[-1].content", f"{name}[-1].value", name))


def _first_text(fields: dict[str, Any], columns: Sequence[str]) -> str | None:
    column = find_column(fields, columns)
    return (text_of(fields, column) or "").strip() or None if column is not None else None
