r"""Reads an answer: its type, and the trees that its text may stand for.

Text that is not mathematics is read here too: booleans, days, clock times, numbers of statements ("(1)(3)",
"①③"), and words. Everything else is the parser's.
"""

import re
from datetime import datetime
from enum import Enum
from fractions import Fraction
from functools import lru_cache

from drsft.verify.maths.evaluate import free_symbols
from drsft.verify.maths.parser import parse
from drsft.verify.maths.syntax import (
    Builder,
    Call,
    Chain,
    Clock,
    Day,
    Listing,
    Matrix,
    Node,
    Num,
    Options,
    Quantity,
    Seq,
    SetOf,
    Sym,
    Truth,
    Words,
    symbols_of,
)
from drsft.verify.maths.tokens import UnreadableError

__all__ = ["AnswerType", "readings_of", "type_of", "words_of"]


class AnswerType(Enum):
    """The type of an answer; docs/verification.md says how each pair of types compares."""

    NUMBER = "number"
    EXPRESSION = "expression"
    QUANTITY = "quantity"
    SET = "set"
    TUPLE = "tuple"
    INTERVAL = "interval"
    LIST = "several values"
    MATRIX = "matrix"
    RELATION = "relation"
    FUNCTION_VALUE = "function value"
    OPTIONS = "choice set"
    BOOLEAN = "boolean"
    TIME = "time"
    TEXT = "text"


_TYPES = {
    Quantity: AnswerType.QUANTITY,
    Truth: AnswerType.BOOLEAN,
    Clock: AnswerType.TIME,
    Day: AnswerType.TIME,
    Options: AnswerType.OPTIONS,
    Words: AnswerType.TEXT,
    Listing: AnswerType.LIST,
    SetOf: AnswerType.SET,
    Builder: AnswerType.SET,
    Matrix: AnswerType.MATRIX,
    Num: AnswerType.NUMBER,
}


def type_of(node: Node) -> AnswerType:
    if (plain := _TYPES.get(type(node))) is not None:
        return plain
    match node:
        case Chain((Call(name, _), *_), _):
            return AnswerType.FUNCTION_VALUE if name.startswith("apply ") else AnswerType.RELATION
        case Chain():
            return AnswerType.RELATION
        case Call("union" | "intersect" | "minus", _) | Sym("emptyset" | "bb(R)"):
            return AnswerType.SET
        case Seq((_, _), left, right) if left == "[" or right == "]" or "inf" in symbols_of(node):
            return AnswerType.INTERVAL
        case Seq():
            return AnswerType.TUPLE
    return AnswerType.EXPRESSION if free_symbols(node) else AnswerType.NUMBER


_DECIMAL_COMMA = re.compile(r"-?(?:0,\d+|\d+,\d{2}|\d+,\d{4,})")
_LABEL = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\{)?\(([A-Z])\)\s*\}?[\s:.\\]*(?=\S)")
_QUOTED = re.compile(r"(['\"])([^'\"]*)\1")


@lru_cache(maxsize=4096)
def readings_of(text: str) -> tuple[Node, ...]:
    """Returns the readings of a cleaned answer, the usual one first, then other meanings of commas.

    It returns () if there is none.
    """
    if (special := _special(text)) is not None:
        return (special,)
    readings: list[Node] = []
    variants = [(text, True)]
    if re.search(r"\d,\d{3}", text):
        variants.append((text, False))
    if _DECIMAL_COMMA.fullmatch(text):
        variants.append((text.replace(",", "."), True))
    if label := _LABEL.match(text):
        variants.append((text[label.end() :], True))
    if "'" in text or '"' in text:
        variants.append((_QUOTED.sub(r"\2", text).strip("[]"), False))
    for variant, grouped in variants:
        try:
            node = parse(variant, grouped=grouped)
        except UnreadableError:
            continue
        if node not in readings:
            readings.append(node)
    if not readings and (words := words_of(text)):
        readings.append(Words(words))
    return tuple(readings)


_TRUTHS = {"true": True, "false": False, "yes": True, "no": False}
_CLOCK = re.compile(r"(\d{1,2})(?:\s*:\s*(\d{2}))?(?::(\d{2}))?\s*([ap])\.?\s*m\b\.?", re.IGNORECASE)
_MONTH = r"[A-Z][a-z]{2,8}"
_DAY = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}|{_MONTH}\.? \d{{1,2}} \d{{4}}|\d{{1,2}} {_MONTH} \d{{4}}")
_DAY_FORMS = ("%Y-%m-%d", "%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y")
_NUMBERED = re.compile(r"(?:\(\s*(\d{1,2})\s*\)[\s,;、]*(?:and|和)?\s*){2,}")
_REMAINDER = re.compile(r"(?:[^=]*=)?\s*(\d+)\s*(?:[rR]|,?\s*(?:with )?remainder(?: of)?)\s*(\d+)")
_REALS = re.compile(r"(?:the set of )?(?:all )?(?:real numbers|reals)", re.IGNORECASE)
_EMPTY = re.compile(r"(?:the\s+)?(?:empty|null)\s+set", re.IGNORECASE)
_SEVERAL = re.compile(r",|\b(?:and|or)\b")
_FONT = re.compile(r"\\(?:text|textbf|mathrm|mbox|textit|texttt|emph)\s*\{([^{}]*)\}")


def _special(text: str) -> Node | None:
    plain = _FONT.sub(r" \1 ", text).strip(" .")
    if (truth := _TRUTHS.get(plain.lower())) is not None:
        return Truth(truth)
    if (clock := _CLOCK.fullmatch(plain)) is not None:
        hour = int(clock[1]) % 12 + (12 if clock[4].lower() == "p" else 0)
        return Clock(3600 * hour + 60 * int(clock[2] or 0) + int(clock[3] or 0))
    if (day := _day(plain)) is not None:
        return day
    if _REALS.fullmatch(" ".join(plain.split())):
        return Sym("bb(R)")
    if _EMPTY.fullmatch(plain):
        return Sym("emptyset")
    if (division := _REMAINDER.fullmatch(plain)) is not None:
        quotient, remainder = int(division[1]), int(division[2])
        return Words(f"{quotient} remainder {remainder}") if remainder else Num(Fraction(quotient))
    if _NUMBERED.fullmatch(plain + " "):
        return Options(frozenset(re.findall(r"\d+", plain)))
    words = words_of(text)
    if len(words.split()) > 3 and not _SEVERAL.search(words):
        return Words(words)  # a sentence, whose "a" is no symbol
    return None


def _day(text: str) -> Day | None:
    """Returns a date with its year, with its month by name or as in ISO 8601; None for anything else."""
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b(?: of\b)?|[,.]", " ", text) if len(text) < 40 else ""
    text = " ".join(text.split())
    for form in _DAY_FORMS if _DAY.fullmatch(text) else ():
        try:
            return Day(datetime.strptime(text, form).date())
        except ValueError:  # another form's, or a day that no month has
            continue
    return None


_WORD = re.compile(r"[A-Za-z一-鿿][A-Za-z一-鿿 ,'-]*")


def words_of(text: str) -> str:
    """Returns the words of "\\text{even}" or "even"; "" if the text is not words only."""
    text = _FONT.sub(r" \1 ", text)
    text = " ".join(text.replace("{", " ").replace("}", " ").split()).strip(". ")
    return text if _WORD.fullmatch(text) else ""
