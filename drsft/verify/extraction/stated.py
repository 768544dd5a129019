"""Reads the value that a statement such as "x = 5" or "the total is 12 apples" gives."""

import re

from drsft.verify.extraction.quantities import NEGATIVE, NUMBER, inequality_in_words, with_unit
from drsft.verify.extraction.rejections import BOUND
from drsft.verify.extraction.sentences import MATH, is_amount
from drsft.verify.maths.answer import readings_of
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.syntax import Words
from drsft.verify.words import words_of

__all__ = ["BARE_LATEX", "LEAD", "bare_latex", "is_readable", "value_of", "without_reason"]

MAX_STATEMENT_CHARS = 160  # of a sentence that is tried as one answer

BARE_LATEX = re.compile(
    r"-?\d*\s*(?:\\[dtc]?frac\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\d)\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\d)"
    r"|\\sqrt(?:\[\d\])?\s*(?:\{[^{}]*\}|\d)|\\pi(?![a-z]))"
)

_CONCLUSION = re.compile(
    r".*(?:\b(?:is|are|was|be|equals|equal\s+to|makes|gives|get|therefore|total\s+of)\b|=)\s*", re.DOTALL
)

_NOTE = re.compile(r"\s+\([^()]*\)\W*$")  # "44 (4 groups of 11)"
_FURTHER = re.compile(
    r",\s+(?:and|while|whereas)\s[^,]*\s(?:is|are|was|were)\b.*", re.DOTALL
)  # "8, and 8 * 8 is 64"
_TRUTH_FIRST = re.compile(r"(yes|no|true|false)\s*[,;:.](?=\s+\w)", re.IGNORECASE)  # "no, it is not"
_REASON = re.compile(
    r"[\s,;]+(?:because|since|as|which|when|after|so|for|by|due|while|but|not|et\s+non|instead|rather"
    r"|(?:up|down)\s+from|i\.e)\b.*|\s*[，,]?(?:因为|不是|而不是|并非|而非).*",
    re.DOTALL,
)


LEAD = re.compile(
    r"(?:#+\s*[A-Za-z ]+:|(?:so|thus|hence|therefore|then|indeed|simply|it['’]?s|it is|that['’]s)\b[,:]?)"
    r"\s+(?:an?\s+)?",
    re.IGNORECASE,
)


def without_reason(statement: str) -> str:
    """Returns a statement up to the words that give a reason: "12, because ..." becomes "12"."""
    return _REASON.sub("", statement)


def is_readable(statement: str) -> bool:
    """Returns whether a whole statement parses as one answer: a value with its unit, a list, a relation, …"""
    if len(statement) > MAX_STATEMENT_CHARS:
        return False
    readings = readings_of(clean(statement))
    return bool(readings) and not isinstance(readings[0], Words)


def value_of(statement: str) -> str:
    """Returns the value that a sentence states: the sentence itself if it parses as one answer, else its last
    mathematics or number.
    """
    statement = statement.strip(" *_`\"'”")
    if (lead := LEAD.match(statement)) is not None:
        statement = statement[lead.end() :]
    if (relation := inequality_in_words(statement)) is not None:
        return relation
    if (truth := _TRUTH_FIRST.match(statement)) is not None:
        return truth[1]
    statement = NEGATIVE.sub("-", statement)
    without_note = _NOTE.sub("", statement)
    statement = _FURTHER.sub("", statement)
    for candidate in (without_reason(statement), statement, statement.rpartition(": ")[2], without_note):
        if candidate and is_readable(candidate):
            return candidate
    if BOUND.match(statement):
        return without_reason(statement)
    if words_of(without_reason(statement)) and len(statement) < 200:
        return without_reason(statement)
    return _last_of(statement)


def _last_of(statement: str) -> str:
    segments = [segment for segment in MATH.finditer(statement) if not is_amount(segment)]
    numbers = list(NUMBER.finditer(statement))
    if segments and (not numbers or numbers[-1].end() <= segments[-1].end()):
        return segments[-1].group()
    if (bare := bare_latex(statement)) is not None:
        return bare
    if (
        len(statement) <= 40
        and "\\" not in statement
        and not (numbers and re.search(r"[\u0600-\uffff]", statement))
        and not re.search(r"[a-zA-Z]{2,}.*\s[a-zA-Z]{2,}", statement)
    ):
        return statement
    if "\\" in statement or not numbers:
        return _CONCLUSION.sub("", statement) or statement
    return with_unit(statement, numbers[-1])


def bare_latex(sentence: str) -> str | None:
    """Returns the last fraction, root or pi outside dollar signs.

    Returns None if there is none or if a number follows.
    """
    if "\\" not in sentence:
        return None
    found = list(BARE_LATEX.finditer(MATH.sub(lambda match: " " * len(match.group()), sentence)))
    if not found:
        return None
    following = NUMBER.search(sentence, found[-1].end())
    return None if following is not None else found[-1].group().strip()
