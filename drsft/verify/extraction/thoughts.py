"""Cuts a text to the part that can have the answer: after its thoughts, and before its end of turn."""

import re

__all__ = ["after_thoughts", "before_end_of_turn"]

_THOUGHT = re.compile(
    r"<\s*(?P<a>/?)\s*(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning|scratchpad|reflection)\s*>"
    r"|<\|(?P<b>begin|start|end)_of_(?:thought|thinking)\|>|<\|(?P<c>start|end)_thinking\|>"
    r"|◁(?P<d>/?)think▷|\[(?P<e>/?)think\]|<\|channel\|>(?P<f>\w+)<\|message\|>|^analysis(?=[A-Z].*assistantfinal)"
    r"|(?P<g>assistantfinal)",
    re.IGNORECASE | re.DOTALL,
)

_ENDS_THOUGHT = frozenset({"/", "end", "final", "assistantfinal"})


def after_thoughts(text: str) -> str | None:
    """Returns the text after the last thought; the whole text if it has none.

    Returns None if the last thought is not closed.
    """
    found = list(_THOUGHT.finditer(text))
    if not found:
        return text
    last = found[-1]
    marks = {group.lower() for group in last.groups() if group}
    return text[last.end() :] if marks & _ENDS_THOUGHT else None


_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{2,20}\|>|</s>")


def before_end_of_turn(text: str) -> str:
    """Returns the text before the first end-of-turn token; what a model writes after that token is no
    answer.
    """
    for token in _SPECIAL_TOKEN.finditer(text):
        if text[: token.start()].strip():
            return text[: token.start()]
    return text
