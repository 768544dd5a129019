"""Computes numbers from trees, at high precision and with bounded work, without sympy.

`exact` gives a Fraction where only whole-number arithmetic is involved. `value_at` gives an mpmath number at
a point. OPERATIONS says what each operation of a tree does to numbers.
"""

import hashlib
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

from drsft.verify.maths.syntax import Call, Node, Num, Sym, symbols_of

__all__ = ["WORKING_DIGITS", "NotANumberError", "TooLargeError", "Value", "exact", "free_symbols", "value_at"]

WORKING_DIGITS = 40
MAX_EXACT_BITS = 20_000
MAX_EXPONENT = 10**15  # of a power, beyond which even mpmath's exponents grow without bound
MAX_TERMS = 2_000
CONSTANTS = {"pi": mp.pi, "e": mp.e, "i": mp.j}
NO_VARIABLES = frozenset({*CONSTANTS, "inf", "dots"})
Value = Any  # mpmath.mpf or mpmath.mpc: mpmath has no types


class NotANumberError(Exception):
    """Raised if a tree has no value at a point: outside its domain, division by zero, not a number at all."""


class TooLargeError(Exception):
    """Raised if a value is too large to compute; then sympy is not tried, either."""


def exact(node: Node) -> Fraction | None:
    """Returns the exact value of a tree of numbers, + - * / ! and small whole powers; None for others."""
    match node:
        case Num(value):
            return value
        case Call(name, arguments) if name in EXACT_OPERATIONS:
            known = [value for value in map(exact, arguments) if value is not None]
            result = EXACT_OPERATIONS[name](*known) if len(known) == len(arguments) else None
            return result if result is not None and _bits(result) <= MAX_EXACT_BITS else None
    return None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    is_small = exponent.denominator == 1 and abs(exponent) <= 10_000
    if not is_small or (base == 0 and exponent < 0) or _bits(base) * abs(exponent) > MAX_EXACT_BITS:
        return None
    return Fraction(base**exponent.numerator)


EXACT_OPERATIONS: Mapping[str, Callable[..., Fraction | None]] = {
    **{"neg": operator.neg, "+": operator.add, "-": operator.sub, "*": operator.mul, "^": _exact_power},
    "/": lambda left, right: left / right if right else None,
    "!": lambda n: Fraction(math.factorial(int(n))) if n.denominator == 1 and 0 <= n <= 500 else None,
}


class _Evaluator:
    """One evaluation. With `is_real` a complex intermediate value raises NotANumberError."""

    def __init__(self, *, is_real: bool) -> None:
        self.is_real = is_real
        self.num_terms = 0

    def value(self, node: Node, point: Mapping[str, Value]) -> Value:
        match node:
            case Num(value):
                return mp.mpf(value.numerator) / value.denominator
            case Sym(name) if name in point:
                return point[name]  # the i of a series is no constant
            case Sym(name) if name in CONSTANTS:
                return +CONSTANTS[name]
            case Call("sum" | "prod" as name, (Sym(index), lower, upper, body)):
                numbers = self.numbers(self.value(lower, point), self.value(upper, point))
                terms = [self.value(body, {**point, index: mp.mpf(k)}) for k in numbers]
                result = mp.fsum(terms) if name == "sum" else mp.fprod(terms)
            case Call(name, arguments):
                result = _applied(name, [self.value(argument, point) for argument in arguments])
            case _:
                raise NotANumberError("the tree is not a number")
        if self.is_real and isinstance(result, mpmath.mpc):
            raise NotANumberError("a value is complex")
        if not mpmath.isfinite(result):
            raise NotANumberError("a value is not finite")
        return result

    def numbers(self, first: Value, last: Value) -> range:
        """Returns the values of a series' index; all series of a tree may have MAX_TERMS terms together."""
        if not (mp.isint(first) and mp.isint(last)):
            raise NotANumberError("the bounds of a series are not integers")
        self.num_terms += max(0, int(min(last - first, MAX_TERMS)) + 1)
        if self.num_terms > MAX_TERMS:
            raise NotANumberError(f"the series have more than {MAX_TERMS} terms")
        return range(int(first), int(last) + 1)


def _applied(name: str, values: list[Value]) -> Value:
    if name.startswith("apply "):
        return _unknown_function(name, values)
    if (operation := OPERATIONS.get(name)) is None:
        raise NotANumberError(name)
    try:
        return operation(*values)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError, mpmath.libmp.NoConvergence) as error:
        raise NotANumberError(str(error)) from None


def free_symbols(node: Node) -> frozenset[str]:
    return symbols_of(node) - NO_VARIABLES


def value_at(
    node: Node, point: Mapping[str, Value], *, is_real: bool = False, digits: int = WORKING_DIGITS
) -> Value:
    """Returns a tree's value at a point; raises NotANumberError if it has none, TooLargeError if too big."""
    with mp.workdps(digits):
        return _Evaluator(is_real=is_real).value(node, point)


def _unknown_function(name: str, values: list[Value]) -> Value:
    """Returns the value of an unknown function: a fixed number for each name and arguments."""
    written = name + "".join(mpmath.nstr(value, 12) for value in values)
    digest = hashlib.blake2b(written.encode(), digest_size=8).digest()
    return mp.mpf(1) / 2 + mp.mpf(int.from_bytes(digest, "big")) / 2**64


def _power(base: Value, exponent: Value) -> Value:
    if base == 0 and mp.re(exponent) <= 0:
        if exponent == 0:
            return mp.mpf(1)
        raise NotANumberError("zero has a negative exponent")
    size = abs(exponent)
    if size > MAX_EXPONENT or (base and size * abs(mp.log(abs(base))) > MAX_EXPONENT):
        raise TooLargeError
    is_real = isinstance(exponent, mpmath.mpf) and isinstance(base, mpmath.mpf)
    if is_real and base < 0 and exponent != mp.floor(exponent):
        # The real odd root of a negative number, as school has it: (-8)^(1/3) = -2.
        for denominator in (3, 5, 7, 9):
            numerator = exponent * denominator
            if abs(numerator - mp.nint(numerator)) < mp.mpf(10) ** (5 - WORKING_DIGITS):
                root = -((-base) ** (mp.mpf(1) / denominator))
                return root ** int(mp.nint(numerator))
    return mp.power(base, exponent)


def _bounded(operation: Any) -> Any:
    """Returns the operation with a check that rejects arguments whose result would be too large."""

    def apply(*values: Value) -> Value:
        if any(abs(value) > MAX_EXPONENT for value in values):
            raise TooLargeError
        return operation(*values)

    return apply


def _whole(operation: Any) -> Any:
    def apply(*values: Value) -> Value:
        if any(isinstance(v, mpmath.mpc) or v != mp.floor(v) or abs(v) > MAX_EXPONENT for v in values):
            raise NotANumberError("the operation is defined for whole numbers only")
        return mp.mpf(operation(*(int(v) for v in values)))

    return apply


_OF_ONE = "sqrt floor ceil sin cos tan cot sec csc sinh cosh tanh coth sech csch re im arg sign"
_INVERSE = "sin cos tan sec csc sinh cosh tanh"

OPERATIONS: Mapping[str, Any] = {
    **{name: getattr(mp, name) for name in _OF_ONE.split()},
    **{f"arc{name}": getattr(mp, f"a{name}") for name in _INVERSE.split()},
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": _power,
    "neg": operator.neg,
    "abs": abs,
    "%": lambda a: a / 100,
    "deg": lambda a: a * mp.pi / 180,
    "!": lambda n: _bounded(mp.factorial)(n) if n >= 0 else mp.nan,
    "!!": lambda n: mp.fac2(n) if -1 <= n <= 10_000 else mp.nan,
    "root": lambda radicand, index: _power(radicand, 1 / index),
    "exp": _bounded(mp.exp),
    "ln": mp.log,
    "log": mp.log,
    "binom": _bounded(mp.binomial),
    "arccot": lambda a: mp.pi / 2 - mp.atan(a),
    "min": min,
    "max": max,
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
    "mod": lambda left, right: left % right if abs(left) <= MAX_EXPONENT else mp.nan,
}
