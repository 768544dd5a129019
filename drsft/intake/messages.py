"""Reads a conversation: a list of {role, content} or of {from, value} (ShareGPT), or a JSON string of one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drsft.records import Message

__all__ = ["Conversation", "UnusableConversation", "read_conversation"]

_ROLES = ("system", "user", "assistant")
_SHARE_GPT = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation: earlier turns, the question, and the assistant's answer if it has the last turn."""

    question: str  # the last user turn
    earlier: tuple[Message, ...] = ()
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class UnusableConversation:
    """The reason why a value is not a usable conversation: reports count `reason`; `detail` is about this
    value.
    """

    reason: str
    detail: str


def read_conversation(value: Any, *, keeps_thought: bool = False) -> Conversation | UnusableConversation:
    """Returns the conversation with its turns stripped of white space, or the reason why it is unusable.

    The last turn must be a user's, or an assistant's that follows a user's. A separate thought
    (`reasoning_content`) is read from the last turn only, and only with `keeps_thought`: then the answer
    begins with it, in <think> tags.
    """
    turns = _listed(value)
    if isinstance(turns, UnusableConversation):
        return turns
    read: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        message = _message(turn, number)
        if isinstance(message, UnusableConversation):
            return message
        read.append(message)
    answer = None
    if read[-1].role == "assistant":
        thought = _thought_before(turns[-1]) if keeps_thought else ""
        answer = thought + read.pop().content
    if not read or read[-1].role != "user":
        has = "nothing" if not read else f"a turn of the {read[-1].role}"
        return UnusableConversation("no user turn at the end", f"the conversation ends with {has}")
    *earlier, last = read
    return Conversation(question=last.content, earlier=tuple(earlier), answer=answer)


def _listed(value: Any) -> Sequence[Any] | UnusableConversation:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return UnusableConversation("messages are not a list", "they are a text that is not JSON")
    if not isinstance(value, list):
        found = type(value).__name__
        return UnusableConversation("messages are not a list", f"a list of {{role, content}}, not {found}")
    if not value:
        return UnusableConversation("no messages", "the list is empty")
    return value


def _message(turn: Any, number: int) -> Message | UnusableConversation:
    where = f"message {number}"
    if not isinstance(turn, Mapping) or ("role" not in turn and "from" not in turn):
        return UnusableConversation("message without a role", f"{where} is not a {{role, content}}")
    speaker = turn.get("from")
    role = turn["role"] if "role" in turn else _SHARE_GPT.get(str(speaker).lower(), speaker)
    if role not in _ROLES:
        return UnusableConversation("unknown role", f"{where} has {role!r:.100}; known: {', '.join(_ROLES)}")
    if role == "system" and number > 1:
        return UnusableConversation("system turn after others", f"{where} is one; only the first can be")
    if turn.get("tool_calls"):
        return UnusableConversation("message with tool calls", f"{where}; only texts can be rendered")
    content = _text(turn.get("content", turn.get("value")))
    if content is None:
        return UnusableConversation("message without text", f"{where}: neither a text nor a list of texts")
    if not content.strip():
        return UnusableConversation("empty message", f"{where}, a turn of the {role}")
    return Message(role=role, content=content.strip())


def _text(content: Any) -> str | None:
    """Returns the text, or its parts joined as chat templates join them; None if a part is not text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part if isinstance(part, str) else _text_of_part(part) for part in content]
    return "".join(text for text in texts if text is not None) if None not in texts else None


def _text_of_part(part: Any) -> str | None:
    if not isinstance(part, Mapping) or part.get("type", "text") != "text":
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _thought_before(turn: Mapping[str, Any]) -> str:
    thought = turn.get("reasoning_content")
    return f"<think>\n{thought.strip()}\n</think>\n\n" if isinstance(thought, str) and thought.strip() else ""
