"""Computes numbers from trees, at high precision and with bounded work, without sympy.

`exact` returns a Fraction if only whole-number arithmetic is involved. `value_at` returns an mpmath number at
a point.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

from drsft.verify.maths.operations import (
    OPERATIONS,
    WORKING_DIGITS,
    NotANumberError,
    OutsideRealsError,
    TooLargeError,
    Value,
    unknown_function,
)
from drsft.verify.maths.syntax import Call, Node, Num, Sym, symbols_of

__all__ = ["NotANumberError", "TooLargeError", "exact", "free_symbols", "value_at"]

MAX_EXACT_BITS = 20_000
MAX_TERMS = 2_000
CONSTANTS = frozenset({"pi", "e", "i", "inf", "dots"})


def exact(node: Node) -> Fraction | None:
    """Returns the rational value of a tree of numbers, + - * / and small whole powers.

    For anything else it returns None.
    """
    match node:
        case Num(value):
            return value
        case Call("neg", (operand,)):
            negated = exact(operand)
            return None if negated is None else -negated
        case Call("+" | "-" | "*" | "/" | "^" as operator, (left, right)):
            first, second = exact(left), exact(right)
            if first is None or second is None:
                return None
            return _exact_operation(operator, first, second)
        case Call("!", (operand,)):
            whole = exact(operand)
            if whole is None or whole.denominator != 1 or not 0 <= whole <= 500:
                return None
            return Fraction(math.factorial(whole.numerator))
    return None


def _exact_operation(operator: str, left: Fraction, right: Fraction) -> Fraction | None:
    result: Fraction
    if operator == "^":
        is_small = right.denominator == 1 and abs(right) <= 10_000
        if not is_small or (left == 0 and right < 0) or _bits(left) * abs(right) > MAX_EXACT_BITS:
            return None
        result = left**right.numerator
    elif operator == "/" and not right:
        return None
    else:
        result = OPERATIONS[operator](left, right)
    return result if _bits(result) <= MAX_EXACT_BITS else None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


class _Evaluator:
    """One evaluation. With `is_real` a complex intermediate value raises OutsideRealsError."""

    def __init__(self, point: Mapping[str, Value], *, is_real: bool) -> None:
        self.point = point
        self.is_real = is_real
        self.bound: dict[str, Value] = {}
        self.num_terms = 0

    def value(self, node: Node) -> Value:
        match node:
            case Num(value):
                if value.denominator == 1:
                    return mp.mpf(value.numerator)
                return mp.mpf(value.numerator) / value.denominator
            case Sym(name):
                return self.symbol(name)
            case Call(name, arguments):
                result = self.call(name, arguments)
                if self.is_real and isinstance(result, mpmath.mpc):
                    raise OutsideRealsError
                if not mpmath.isfinite(result):
                    raise NotANumberError("not finite")
                return result
        raise NotANumberError("a structure")

    def symbol(self, name: str) -> Value:
        if name == "pi":
            return +mp.pi
        if name == "e":
            return +mp.e
        if name == "i":
            return mp.mpc(0, 1)
        if name in self.bound:
            return self.bound[name]
        if name in self.point:
            return self.point[name]
        raise NotANumberError(name)

    def call(self, name: str, arguments: tuple[Node, ...]) -> Value:
        if name in ("sum", "prod"):
            return self.series(name, arguments)
        values = [self.value(argument) for argument in arguments]
        if name.startswith("apply "):
            return unknown_function(name, values)
        operation = OPERATIONS.get(name)
        if operation is None:
            raise NotANumberError(name)
        try:
            return operation(*values)
        except (ZeroDivisionError, ValueError, OverflowError, TypeError, mpmath.libmp.NoConvergence) as error:
            raise NotANumberError(str(error)) from None

    def series(self, name: str, arguments: tuple[Node, ...]) -> Value:
        index, lower, upper, body = arguments
        assert isinstance(index, Sym)
        first, last = self.value(lower), self.value(upper)
        if first != mp.floor(first) or last != mp.floor(last):
            raise NotANumberError("bounds of a series")
        self.num_terms += max(0, int(last - first) + 1) if last - first < MAX_TERMS else MAX_TERMS + 1
        if self.num_terms > MAX_TERMS:
            raise NotANumberError("too many terms")
        total = mp.mpf(0 if name == "sum" else 1)
        saved = self.bound.get(index.name)
        for k in range(int(first), int(last) + 1):
            self.bound[index.name] = mp.mpf(k)
            term = self.value(body)
            total = total + term if name == "sum" else total * term
        if saved is None:
            self.bound.pop(index.name, None)
        else:
            self.bound[index.name] = saved
        return total


def free_symbols(node: Node) -> frozenset[str]:
    return symbols_of(node) - CONSTANTS


def value_at(
    node: Node, point: Mapping[str, Value], *, is_real: bool = False, digits: int = WORKING_DIGITS
) -> Value:
    """Returns the tree's value at a point. Raises NotANumberError.

    The parser bounds the depth of recursion.
    """
    with mp.workdps(digits):
        return _Evaluator(point, is_real=is_real).value(node)
