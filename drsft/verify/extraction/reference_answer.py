"""Finds the answer that a reference states: the reference itself, or what a whole solution announces."""

import re
from functools import lru_cache

from drsft.verify.extraction.order import find_answer

__all__ = ["reference_answer"]

NO_ANSWERS = ("n/a", "na", "nan", "none", "null", "unknown", "tbd")  # how tables spell that there is none
_ANNOUNCED = re.compile(
    r"(?:the\s+|final\s+)*(?:solution|answer)s?\s*(?:is|are)?\s*:\s*([^\n]+)$", re.IGNORECASE
)
_LAST_LINE = re.compile(r"(?:^|\n)[ \t]*A(?:ns(?:wer)?)?:[ \t]*([^\n]+)\s*$")
_LAST_SENTENCE = re.compile(  # of a solution; an answer that begins so is no solution
    r"[.!?]\s+(?:[a-z]+,?\s+){0,3}answer\s*(?:is\s*:?|:)\s[^\n]{1,80}$", re.IGNORECASE
)
_CONCLUSION = re.compile(  # "Show that the limit equals $2/e$.", whose one value is at its end
    r"(?:(?:show|prove)\s+that\s+)?(?:[A-Za-z][\w'-]*,?\s+)+?"
    r"(?:is|are|equals?|evaluates\s+to|converges\s+to)\s+(?:equal\s+to\s+)?"
    r"(?P<value>(?<!\\)\$[^$]+\$|-?\d[\d,./]*?)\s*\.?",
    re.IGNORECASE,
)
_QUALIFIED = re.compile(r"\b(?:not|no|never|nor|neither|if|when|whenever|need)\b|n['’]t\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def reference_answer(reference: str) -> str | None:
    """Returns the answer that a reference states; None if it states none, as "n/a" or an empty text."""
    reference = reference.strip()
    if any(mark in reference for mark in ("boxed", "fbox", "####")) or _LAST_SENTENCE.search(reference):
        found = find_answer(reference)
        reference = found.text if found else ""
    elif (announced := _ANNOUNCED.match(reference) or _LAST_LINE.search(reference)) is not None:
        reference = announced[1]
    elif (concluded := _CONCLUSION.fullmatch(reference)) is not None and not _QUALIFIED.search(reference):
        reference = concluded["value"]
    is_said = any(character.isalnum() for character in reference) or bool(set("\\<>=") & set(reference))
    return reference if is_said and reference.lower() not in NO_ANSWERS else None
