"""Finds out whether a calculation in a solution gives its answer.

"We have x = 5 + 4, so the answer is 9" states no equation that could be checked, and yet leads to 9; so does
"multiply 7 by 7, giving 49". A copied answer comes without such a calculation. It uses no process and no
clock, and is linear in the text's length, like the step check.
"""

import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from drsft.verify.plain_number import plain_number
from drsft.verify.steps.arithmetic import values_of
from drsft.verify.steps.prose import MAX_CHARS, MAX_LINE_CHARS, Token, side_after, tokens_of

__all__ = ["derives"]

_LATEX = (
    (re.compile(r"\\d?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:cdot|times)(?![a-zA-Z])"), "×"),
    (re.compile(r"\\div(?![a-zA-Z])"), "÷"),
    (re.compile(r"\\(?:boxed|text|left|right)(?![a-zA-Z])|[\\${}]"), " "),
)
_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
_THEN = r"[^\d.\n]{0,30}?\b"  # a few words between two numbers
_WORDED: tuple[tuple[re.Pattern[str], Callable[[Fraction, Fraction], Fraction]], ...] = tuple(
    (re.compile(pattern.replace("N", _NUMBER).replace("_", _THEN), re.IGNORECASE), function)
    for pattern, function in (
        (r"\bmultipl(?:y|ying|ies)\s+N_(?:by|with|and)\s+N", operator.mul),
        (r"\bN_(?:times|multiplied by)\s+N", operator.mul),
        (r"\badd(?:ing|s)?\s+N_(?:to|and|with)\s+N", operator.add),
        (r"\bsum of\s+N_and\s+N", operator.add),
        (r"\bN_plus\s+N", operator.add),
        (r"\bsubtract(?:ing|s)?\s+N_from\s+N", lambda first, second: second - first),
        (r"\bN_minus\s+N", operator.sub),
        (r"\bdivid(?:e|ing|es)\s+N_by\s+N", operator.truediv),
        (r"\bN_divided by\s+N", operator.truediv),
    )
)
_BEGINS = ("number", "open", "money")


def derives(text: str, answer: str) -> bool | None:
    """Returns whether a calculation in `text` results in the number `answer`, and the text then states it.

    Returns None if the answer is not a plain number.
    """
    wanted = plain_number(answer)
    if wanted is None:
        return None
    for line, is_stated_below in _lines(text[:MAX_CHARS], wanted):
        for end, value in _calculations(line):
            if value == wanted and (is_stated_below or wanted in _numbers(line[end:])):
                return True
    return False


def _lines(text: str, wanted: Fraction) -> Iterator[tuple[str, bool]]:
    """Yields each line without its LaTeX, and whether a later one states the number."""
    for pattern, written in _LATEX:
        text = pattern.sub(written, text)
    lines = [line[:MAX_LINE_CHARS] for line in text.splitlines()]
    stating = [index for index, line in enumerate(lines) if wanted in _numbers(line)]
    last = stating[-1] if stating else -1
    for index, line in enumerate(lines):
        yield line, index < last


def _calculations(line: str) -> Iterator[tuple[int, Fraction]]:
    """Yields where each calculation of a line ends, and its value, for every sensible reading."""
    tokens = tokens_of(line)
    index = 0
    while index < len(tokens):
        side = side_after(tokens, index - 1) if _begins(tokens, index) else None
        if side is None or not side.operators:
            index += 1
            continue
        for value in values_of(side):
            yield side.end, value
        while index < len(tokens) and tokens[index].start < side.end:
            index += 1
    for pattern, function in _WORDED:
        for match in pattern.finditer(line):
            first, second = plain_number(match[1]), plain_number(match[2])
            if first is not None and second is not None and (second or function is not operator.truediv):
                yield match.end(), function(first, second)


def _begins(tokens: list[Token], index: int) -> bool:
    """Returns whether a calculation can begin here, which is not inside a longer one."""
    return tokens[index].kind in _BEGINS and (index == 0 or tokens[index - 1].kind != "operator")


def _numbers(text: str) -> set[Fraction]:
    found = (plain_number(match) for match in re.findall(rf"(?<![\w.]){_NUMBER}", text))
    return {one for one in found if one is not None}
