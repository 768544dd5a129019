r"""Parses an answer into the trees that its text may mean, and tells the type of a tree.

Text that is not mathematics is parsed by `said.py`, or kept as words; the parser does everything else.
"""

import re
from datetime import date, time
from enum import Enum
from fractions import Fraction
from functools import lru_cache

from drsft.verify.maths.evaluate import free_symbols
from drsft.verify.maths.parser import parse
from drsft.verify.maths.syntax import (
    Builder,
    Call,
    Chain,
    Listing,
    Matrix,
    Node,
    Num,
    Quantity,
    Said,
    Seq,
    SetOf,
    Sym,
    Words,
    symbols_of,
)
from drsft.verify.maths.tokens import UnreadableError
from drsft.verify.said import said_by
from drsft.verify.words import without_fonts, words_of

__all__ = ["AnswerType", "readings_of", "type_of"]


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
    bool: AnswerType.BOOLEAN,
    time: AnswerType.TIME,
    date: AnswerType.TIME,
    frozenset: AnswerType.OPTIONS,
    Words: AnswerType.TEXT,
    Listing: AnswerType.LIST,
    SetOf: AnswerType.SET,
    Builder: AnswerType.SET,
    Matrix: AnswerType.MATRIX,
    Num: AnswerType.NUMBER,
}


def type_of(node: Node) -> AnswerType:
    if (plain := _TYPES.get(type(node.value if isinstance(node, Said) else node))) is not None:
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
    """Returns the trees that a text from `clean` may mean, the usual one first; () if it cannot be parsed."""
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


_REMAINDER = re.compile(r"(?:[^=]*=)?\s*(\d+)\s*(?:[rR]|,?\s*(?:with )?remainder(?: of)?)\s*(\d+)")
_REALS = re.compile(r"(?:the set of )?(?:all )?(?:real numbers|reals)", re.IGNORECASE)
_EMPTY = re.compile(r"(?:the\s+)?(?:empty|null)\s+set", re.IGNORECASE)
_SEVERAL = re.compile(r",|\b(?:and|or)\b")


def _special(text: str) -> Node | None:
    plain = without_fonts(text).strip(" .")
    if (said := said_by(plain)) is not None:
        return Said(said)
    if _REALS.fullmatch(" ".join(plain.split())):
        return Sym("bb(R)")
    if _EMPTY.fullmatch(plain):
        return Sym("emptyset")
    if (division := _REMAINDER.fullmatch(plain)) is not None:
        quotient, remainder = int(division[1]), int(division[2])
        return Words(f"{quotient} remainder {remainder}") if remainder else Num(Fraction(quotient))
    words = words_of(text)
    if len(words.split()) > 3 and not _SEVERAL.search(words):
        return Words(words)  # a sentence, whose "a" is no symbol
    return None
