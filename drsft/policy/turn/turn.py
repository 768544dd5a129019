"""The assistant's turn of one model: the text around an answer, the tokens that end it, the markers of
thoughts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["PromptThought", "Thought", "Turn", "TurnPiece"]


class PromptThought(StrEnum):
    """Whether the generation prompt opens or closes a thought."""

    NONE = "none"  # the model decides
    OPEN = "open"  # it ends inside one
    CLOSED = "closed"  # it has closed one, usually an empty one, so that the model does not think


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """The markers of a thought, and the text that the template writes around a thought in a completion."""

    open: str  # as the template writes it, white space aside
    close: str
    in_prompt: PromptThought
    before: str
    """The beginning of a completion with a thought; empty if the prompt has opened the thought."""
    after: str
    """The text between the thought and the answer."""

    @property
    def is_open_in_prompt(self) -> bool:
        return self.in_prompt is PromptThought.OPEN


@dataclass(frozen=True, slots=True)
class TurnPiece:
    """A part of a completion: either written by the template, or a text in which markers are ordinary
    characters.
    """

    text: str
    is_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The assistant's turn, derived once and stored in the run.

    A completion is `head`, the text and `tail`, or, with a thought, `thought.before`, the thought,
    `thought.after`, the text and `tail`.
    """

    template: str
    variables: Mapping[str, Any]  # target.chat_template_kwargs
    date: str  # ISO; the date that the template gets
    reads_date: bool
    read_variables: tuple[str, ...]  # that a user may set
    prompt: str  # the generation prompt for the question "drsft-question"
    head: str
    tail: str
    end_token_ids: tuple[int, ...]  # what sampling stops at; the first is the tail's last token
    thought: Thought | None
    differs_because: str | None
    """Why prompt, head, answer and tail are not a prefix of the template's rendering; None if they are."""
    system_refusal: str | None  # why there can be no system turn
    conversation_refusal: str | None  # why there can be no turns of the assistant before the last

    @property
    def equals_template(self) -> bool:
        return self.differs_because is None

    def pieces(self, answer: str, thought: str | None = None) -> tuple[TurnPiece, ...]:
        """Returns the pieces of a completion in order. The thought is dropped if the model marks no thoughts
        or if the prompt has closed one already.
        """
        marks = self.thought
        if thought is None or marks is None or marks.in_prompt is PromptThought.CLOSED:
            return (TurnPiece(self.head), TurnPiece(answer, is_text=True), TurnPiece(self.tail))
        return (
            TurnPiece(marks.before),
            TurnPiece(thought, is_text=True),
            TurnPiece(marks.after),
            TurnPiece(answer, is_text=True),
            TurnPiece(self.tail),
        )
