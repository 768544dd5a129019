"""Test conversations (probes) on which a chat template is tried, and the placeholder texts in them."""

from typing import Any

from drsft.policy.turn.sandbox import Conversation

__all__ = [
    "ANSWER",
    "LONG_ANSWER",
    "NEXT_ANSWER",
    "NEXT_QUESTION",
    "QUESTION",
    "SYSTEM",
    "THOUGHT",
    "THOUGHT_FORMS",
    "probes",
]

QUESTION = "drsft-question"
ANSWER = "drsft-answer"
LONG_ANSWER = (  # what templates might rewrite inside an answer
    'A first line\n\nand  a SECOND: {{ x }} {% y %} <b>1 < 2</b> & "it\'s" **so**,\t'
    "`π²` $\\boxed{3}$\n# [end](1)"
)
NEXT_QUESTION = "drsft-follow-up"
NEXT_ANSWER = "drsft-reply"
THOUGHT = "drsft-thought"
SYSTEM = "drsft-system"

Message = dict[str, Any]

# How an answer with a thought is handed to a template; each knows one of these forms, or none.
THOUGHT_FORMS: dict[str, Message] = {
    "reasoning_content": {"content": ANSWER, "reasoning_content": THOUGHT},
    "reasoning": {"content": ANSWER, "reasoning": THOUGHT},
    "thinking": {"content": ANSWER, "thinking": THOUGHT},
    "parts": {
        "content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}],
    },
    "tags": {"content": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"},
}


def probes() -> dict[str, Conversation]:
    """Returns the test conversations by name: questions that are rendered with the generation prompt (names
    with "asked"), and answered ones that are rendered without it.
    """
    question, answer = _user(QUESTION), _assistant(ANSWER)
    next_question = _user(NEXT_QUESTION)
    system: Message = {"role": "system", "content": SYSTEM}
    answered = {
        f"thought: {name}": _answered(question, {"role": "assistant", **form})
        for name, form in THOUGHT_FORMS.items()
    }
    return {
        "asked": _asked(question),
        "asked, no prompt": _answered(question),
        "answered": _answered(question, answer),
        "answered at length": _answered(question, _assistant(LONG_ANSWER)),
        "followed": _answered(question, answer, next_question),
        "asked again": _asked(question, answer, next_question),
        "answered again": _answered(question, answer, next_question, _assistant(NEXT_ANSWER)),
        "asked under a system turn": _asked(system, question),
        "asked in parts": _asked({"role": "user", "content": [{"type": "text", "text": QUESTION}]}),
        **answered,
    }


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _asked(*messages: Message) -> Conversation:
    return Conversation(messages=messages, add_generation_prompt=True)


def _answered(*messages: Message) -> Conversation:
    return Conversation(messages=messages, add_generation_prompt=False)
