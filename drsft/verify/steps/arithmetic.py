"""Compares two sides of an equation in prose, read as charitably as a teacher would."""

import re
from fractions import Fraction

from drsft.verify.maths.evaluate import exact
from drsft.verify.maths.parser import parse
from drsft.verify.maths.tokens import UnreadableError
from drsft.verify.steps.prose import Side

__all__ = ["same_arithmetic", "values_of"]


def same_arithmetic(left: Side, right: Side) -> bool | None:
    """Returns whether two sides of a written equation are equal in any sensible reading.

    Returns None if they are not arithmetic. Readings allow for text before the sum ("each of the 3 boxes -
    5 x 2 = 10" compares 5 x 2 with 10), running sums ("5 x 4 = 20 + 3 = 23"), rounding and unit conversion.
    """
    if not left.operators and "/" not in left.operands[0]:
        return None  # "12 eggs = 1 dozen" is no arithmetic
    num_left, num_right = len(left.operands), len(right.operands)
    lefts = [_value(left, start, num_left) for start in range(max(1, num_left - 1))]
    rights = [_value(right, 0, end) for end in range(num_right, 0, -1)]
    if not any(lefts) or not any(rights):
        return None
    for first in (value for values in lefts for value in values):
        for second in (value for values in rights for value in values):
            if _near(first, second, right.operands[0]) or _is_conversion(first, second, left, right):
                return True
    return False


def values_of(side: Side) -> list[Fraction]:
    """Returns the possible values of the whole side (5 % is 5/100 or 5); [] if it does not parse."""
    return _value(side, 0, len(side.operands))


def _value(side: Side, start: int, end: int) -> list[Fraction]:
    """Returns the values of some of a side's operands, with percent as a hundredth and as a mere sign."""
    expression = side.operands[start]
    for operator, operand in zip(
        side.operators[start : end - 1], side.operands[start + 1 : end], strict=True
    ):
        expression += f" {operator} {operand}"
    # A bracket that prose opened earlier or closes later is not ours.
    while expression.count("(") > expression.count(")") and "(" in expression:
        expression = expression.replace("(", "", 1)
    while expression.count(")") > expression.count("(") and expression.endswith(")"):
        expression = expression[:-1]
    found = []
    for percent in ("/100", "") if "%" in expression else ("",):
        try:
            value = exact(parse(expression.replace("%", percent)))
        except UnreadableError:
            continue
        if value is not None:
            found.append(value)
    return found


def _near(value: Fraction, written: Fraction, text: str) -> bool:
    """Returns whether `written` equals `value`, or rounds it at its last digit.

    A whole number may also truncate.
    """
    difference = abs(value - written)
    if difference == 0:
        return True
    decimals = re.findall(r"\.(\d+)", text)
    if decimals:
        return bool(difference <= Fraction(11, 10) / 10 ** len(decimals[0]))
    return value.denominator != 1 and difference < 1 and written != 0


_FACTORS = frozenset(Fraction(n) for n in (7, 12, 16, 24, 30, 36, 52, 60, 100, 365, 1000, 3600, 5280))


def _is_conversion(value: Fraction, written: Fraction, left: Side, right: Side) -> bool:
    """Returns whether known factors hold: "4 x 30 minutes = 2 hours", "8 x 25 cents = $2".

    Both sides must name different units. A left side without one, "24 x 36 = 72 hours", converts nothing,
    except for cents that become dollars.
    """
    if value == 100 * written and not left.words and right.words == {"$"}:
        return True  # "3 x 25 = $0.75": cents on the left
    if not value or not written or not left.words or not right.words or right.words <= left.words:
        return False
    ratio = value / written
    return ratio in _FACTORS or 1 / ratio in _FACTORS
