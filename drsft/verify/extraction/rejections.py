"""Finds values that a text names only to reject or compare them: "15, not 12", "up from 12"."""

import re

__all__ = ["BOUND", "is_supposed", "without_rejected_values"]

_VALUE = r"(?:\$[^$\n]{1,40}\$|[-−]?[$€£]?\d(?:[\d,.]*\d)?(?:/\d+)?%?)"
_NOT = (
    r"(?:\b(?:is|are|was)n['’]t|\b(?:not|never|nicht|pas|et\s+non|e\s+non|y\s+no|no\s+(?:es|son|é)|non\s+è|instead\s+of|au\s+lieu\s+de|rather\s+than"
    r"|(?:up|down)\s+from|statt|anstatt|en\s+lugar\s+de|plutôt\s+que)|不是|不等于|并非|而非)"
)
_REJECTED = re.compile(
    rf"({_NOT}\s*(?:(?:equal\s+to|be|the\s+value|etwa|exactly|really|necessarily)\s+)?\*{{0,2}}){_VALUE}",
    re.IGNORECASE,
)
_REJECTED_AFTER = re.compile(
    rf"{_VALUE}(?=\s*(?:ではな|じゃな|이\s?아니|가\s?아니)"
    r"|\s+(?:leaves?\s+out|(?:ignor|omit|forget|neglect|overlook)s|would\s+(?:ignore|omit|forget|leave\s+out))\b)"
)
_SUPPOSED = re.compile(
    r"\b(?:(?:thought|guessed|assumed|expected|supposed|hoped|believed)(?:\s+that)?|if|whether|suppose)"
    r"\s+(?:(?:the|my|our)\s+)?$",
    re.IGNORECASE,
)
# "at least 15" is no 15, and "between 10 and 15" neither.
BOUND = re.compile(
    r"(?:(?:roughly|about|approximately|probably)\s+)?(?:(?:at\s+(?:least|most)|(?:more|less|fewer|greater|smaller|larger|higher|lower)\s+than|over|under|above|below"
    r"|up\s+to|between|somewhere|(?:lies|is)\s+between|no\s+(?:more|less|fewer)\s+than|not\s+\w+\s+than)\b|[<>≤≥])",
    re.IGNORECASE,
)


def without_rejected_values(text: str) -> str:
    """Returns the text without the values that it rejects: "15, not 12" loses the 12 and keeps "not"."""
    return _REJECTED_AFTER.sub(" ", _REJECTED.sub(r"\1 ", text))


def is_supposed(before: str) -> bool:
    """Returns whether the text before an announcement makes it a supposition: "I thought the answer
    was 15".
    """
    return _SUPPOSED.search(before[-40:]) is not None
