"""Applies each operation of the tree to numbers, with a bound on its cost; no sympy here."""

import hashlib
import math
import operator
from collections.abc import Mapping
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

__all__ = [
    "OPERATIONS",
    "WORKING_DIGITS",
    "NotANumberError",
    "OutsideRealsError",
    "TooLargeError",
    "Value",
    "unknown_function",
]

WORKING_DIGITS = 40
MAX_EXPONENT = 10**15  # of a power, beyond which even mpmath's exponents grow without bound
Value = Any  # mpmath.mpf or mpmath.mpc: mpmath has no types


class NotANumberError(Exception):
    """The tree has no value at this point: out of the domain, division by zero, a structure."""


class OutsideRealsError(NotANumberError):
    """A real point led to a complex value."""


class TooLargeError(Exception):
    """The value exists but is too large to compute: nothing else is tried, sympy included."""


def unknown_function(name: str, values: list[Value]) -> Value:
    """Returns the value of an unknown function: a fixed number for each name and arguments."""
    written = name + "".join(mpmath.nstr(value, 12) for value in values)
    digest = hashlib.blake2b(written.encode(), digest_size=8).digest()
    return mp.mpf(1) / 2 + mp.mpf(int.from_bytes(digest, "big")) / 2**64


def _power(base: Value, exponent: Value) -> Value:
    if base == 0 and mp.re(exponent) <= 0:
        if exponent == 0:
            return mp.mpf(1)
        raise NotANumberError("zero to a negative power")
    size = abs(exponent)
    if size > MAX_EXPONENT:
        raise TooLargeError
    if base and size * abs(mp.log(abs(base))) > MAX_EXPONENT:
        raise TooLargeError
    if (
        isinstance(exponent, mpmath.mpf)
        and isinstance(base, mpmath.mpf)
        and base < 0
        and exponent != mp.floor(exponent)
    ):
        # The real odd root of a negative number, as school has it: (-8)^(1/3) = -2.
        for denominator in (3, 5, 7, 9):
            numerator = exponent * denominator
            if abs(numerator - mp.nint(numerator)) < mp.mpf(10) ** (5 - WORKING_DIGITS):
                root = -((-base) ** (mp.mpf(1) / denominator))
                return root ** int(mp.nint(numerator))
    return mp.power(base, exponent)


def _factorial(value: Value) -> Value:
    if isinstance(value, mpmath.mpc) or value < 0 or value > MAX_EXPONENT:
        if not isinstance(value, mpmath.mpc) and value > 0:
            raise TooLargeError
        raise NotANumberError("factorial")
    return mp.factorial(value)


def _double_factorial(value: Value) -> Value:
    if isinstance(value, mpmath.mpc) or value < -1 or value > 10_000:
        raise NotANumberError("double factorial")
    return mp.fac2(value)


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
            raise NotANumberError("defined for whole numbers only")
        return mp.mpf(operation(*(int(v) for v in values)))

    return apply


def _modulo(left: Value, right: Value) -> Value:
    if abs(left) > MAX_EXPONENT:
        raise NotANumberError("modulo")
    return left % right


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
    "!": _factorial,
    "!!": _double_factorial,
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
    "mod": _modulo,
}
