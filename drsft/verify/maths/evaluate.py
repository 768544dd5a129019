"""Numbers from trees, at high precision and with bounded work; independent of sympy.

`exact` gives a Fraction where only whole-number arithmetic is involved. `value_at` gives an mpmath number
at a point. `same_function` compares two expressions at random points: agreement to AGREE_DIGITS at several
points is, for expressions of answers' size, as good as a proof, and one clear disagreement is a refutation.
"""

import hashlib
import math
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mp

from drsft.verify.maths.syntax import Call, Matrix, Node, Num, Sym, symbols_of

__all__ = [
    "Agreement",
    "NotANumberError",
    "TooLargeError",
    "close",
    "coordinate",
    "exact",
    "free_symbols",
    "same_function",
    "value_at",
]

WORKING_DIGITS = 40
AGREE_DIGITS = 20  # half of the working digits may be lost to cancellation before two equals look different
NUM_POINTS = 4  # that must agree
MAX_TRIES = 24
NOISE = 1e-30  # smaller values may be zero, spoilt by cancellation at WORKING_DIGITS
MAX_EXACT_BITS = 20_000
MAX_EXPONENT = 10**15  # of a power, beyond which even mpmath's exponents grow without bound
MAX_TERMS = 2_000
CONSTANTS = frozenset({"pi", "e", "i", "inf", "dots"})

Value = Any  # mpmath.mpf or mpmath.mpc: mpmath has no types


class NotANumberError(Exception):
    """The tree has no value here: out of the domain, division by zero, a structure."""


class OutsideRealsError(NotANumberError):
    """A real point led to a complex value."""


class TooLargeError(Exception):
    """The value exists and no machine can write it down: nothing is to be tried on it, sympy included."""


class Agreement(Enum):
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


# --- exact arithmetic --------------------------------------------------------------------------------------


def exact(node: Node) -> Fraction | None:
    """The rational value of a tree of numbers, + - * / and small whole powers; None for anything else."""
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
    result: Fraction | None
    match operator:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case "/":
            result = left / right if right else None
        case _:
            if right.denominator != 1 or abs(right) > 10_000 or (left == 0 and right < 0):
                return None
            if _bits(left) * abs(right) > MAX_EXACT_BITS:
                return None
            result = left**right.numerator
    if result is not None and _bits(result) > MAX_EXACT_BITS:
        return None
    return result


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


# --- values at a point -------------------------------------------------------------------------------------


class _Evaluator:
    """One evaluation. `is_real`: a complex intermediate value raises OutsideRealsError."""

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
        if name == "det":
            return self.determinant(arguments[0])
        values = [self.value(argument) for argument in arguments]
        if name.startswith("apply "):
            return _unknown_function(name, values)
        operation = _OPERATIONS.get(name)
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

    def determinant(self, node: Node) -> Value:
        if not isinstance(node, Matrix) or len(node.rows) != len(node.rows[0]) or len(node.rows) > 6:
            raise NotANumberError("determinant")
        return mp.det(mp.matrix([[self.value(item) for item in row] for row in node.rows]))


def _unknown_function(name: str, values: list[Value]) -> Value:
    """f(x) for an unknown f: some fixed number for f and x, the same for equal x."""
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


def _root(radicand: Value, index: Value) -> Value:
    return _power(radicand, 1 / index)


def _log(argument: Value, base: Value | None = None) -> Value:
    return mp.log(argument) if base is None else mp.log(argument) / mp.log(base)


def _binomial(n: Value, k: Value) -> Value:
    if abs(n) > MAX_EXPONENT or abs(k) > MAX_EXPONENT:
        raise TooLargeError
    return mp.binomial(n, k)


def _exp(value: Value) -> Value:
    if abs(value) > MAX_EXPONENT:
        raise TooLargeError
    return mp.exp(value)


def _whole(operation: Any) -> Any:
    def apply(*values: Value) -> Value:
        if any(isinstance(v, mpmath.mpc) or v != mp.floor(v) or abs(v) > MAX_EXPONENT for v in values):
            raise NotANumberError("of whole numbers only")
        return mp.mpf(operation(*(int(v) for v in values)))

    return apply


def _modulo(left: Value, right: Value) -> Value:
    if abs(left) > MAX_EXPONENT:
        raise NotANumberError("modulo")
    return left % right


_OPERATIONS: Mapping[str, Any] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": _power,
    "neg": lambda a: -a,
    "%": lambda a: a / 100,
    "deg": lambda a: a * mp.pi / 180,
    "!": _factorial,
    "!!": _double_factorial,
    "sqrt": lambda a: mp.sqrt(a),
    "root": _root,
    "abs": lambda a: abs(a),
    "floor": lambda a: mp.floor(a),
    "ceil": lambda a: mp.ceil(a),
    "exp": _exp,
    "ln": _log,
    "log": _log,
    "lg": lambda a: mp.log10(a),
    "binom": _binomial,
    "sin": lambda a: mp.sin(a),
    "cos": lambda a: mp.cos(a),
    "tan": lambda a: mp.tan(a),
    "cot": lambda a: mp.cot(a),
    "sec": lambda a: mp.sec(a),
    "csc": lambda a: mp.csc(a),
    "arcsin": lambda a: mp.asin(a),
    "arccos": lambda a: mp.acos(a),
    "arctan": lambda a: mp.atan(a),
    "arccot": lambda a: mp.pi / 2 - mp.atan(a),
    "arcsec": lambda a: mp.asec(a),
    "arccsc": lambda a: mp.acsc(a),
    "sinh": lambda a: mp.sinh(a),
    "cosh": lambda a: mp.cosh(a),
    "tanh": lambda a: mp.tanh(a),
    "coth": lambda a: mp.coth(a),
    "sech": lambda a: mp.sech(a),
    "csch": lambda a: mp.csch(a),
    "arcsinh": lambda a: mp.asinh(a),
    "Re": lambda a: mp.re(a),
    "Im": lambda a: mp.im(a),
    "arg": lambda a: mp.arg(a),
    "min": min,
    "max": max,
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
    "mod": _modulo,
}


def free_symbols(node: Node) -> frozenset[str]:
    return symbols_of(node) - CONSTANTS


def value_at(
    node: Node, point: Mapping[str, Value], *, is_real: bool = False, digits: int = WORKING_DIGITS
) -> Value:
    """The tree's value; raises NotANumberError. Recursion is bounded by the reader's depth."""
    with mp.workdps(digits):
        return _Evaluator(point, is_real=is_real).value(node)


def close(left: Value, right: Value, *, digits: int = AGREE_DIGITS) -> bool:
    """Relative agreement, so that 1/2004! is not 1/2006!; zero is close to zero only."""
    with mp.workdps(WORKING_DIGITS):
        return bool(abs(left - right) <= max(abs(left), abs(right)) * mp.mpf(10) ** -digits)


def _agree(left: Node, right: Node, point: Mapping[str, Value], *, is_real: bool = False) -> bool:
    """Whether the trees are close at a point; raises NotANumberError."""
    first = value_at(left, point, is_real=is_real)
    second = value_at(right, point, is_real=is_real)
    if close(first, second):
        return True
    if min(abs(first), abs(second)) > NOISE:
        return False
    # Is what is nearly zero a small number (1/2004!), or what cancellation has left of zero (sin pi)? Noise
    # shrinks with the working precision.
    finer = [value_at(side, point, is_real=is_real, digits=2 * WORKING_DIGITS) for side in (left, right)]
    if close(*finer):
        return True
    return all(
        fine == 0 or abs(fine) < abs(coarse) * NOISE**0.5
        for fine, coarse in zip(finer, (first, second), strict=True)
    )


@lru_cache(maxsize=4096)
def coordinate(name: str, attempt: int) -> Value:
    """A repeatable, unremarkable number for a symbol: positive on even attempts, either sign on odd ones."""
    digest = hashlib.blake2b(f"{name}/{attempt}".encode(), digest_size=8).digest()
    fraction = mp.mpf(int.from_bytes(digest, "big")) / 2**64
    with mp.workdps(WORKING_DIGITS):
        value = mp.mpf("0.3") + mp.mpf("2.9") * fraction + mp.mpf(1) / 7919
        if attempt % 4 == 2:
            value = value + 5
        return -value if attempt % 2 and digest[0] & 1 else value


def same_function(left: Node, right: Node) -> Agreement:
    """Whether two expressions have the same value wherever both have one.

    Points are real and only count where neither side goes through complex values, so sqrt(x)sqrt(y) is
    sqrt(xy), but sqrt(x^2) is not x. Expressions that are never real are compared as complex ones.
    """
    names = sorted(free_symbols(left) | free_symbols(right))
    if not names:
        return _same_constant(left, right)
    for is_real in (True, False):
        if is_real and "i" in (symbols_of(left) | symbols_of(right)):
            continue
        num_agreeing = 0
        for attempt in range(MAX_TRIES):
            point = {name: coordinate(name, attempt) for name in names}
            try:
                is_agreeing = _agree(left, right, point, is_real=is_real)
            except NotANumberError:
                continue
            if not is_agreeing:
                return _on_whole_numbers(left, right, names)
            num_agreeing += 1
            if num_agreeing >= NUM_POINTS + len(names):
                return Agreement.SAME
        if num_agreeing >= NUM_POINTS:
            return Agreement.SAME
    return _on_whole_numbers(left, right, names, default=Agreement.UNKNOWN)


def _same_constant(left: Node, right: Node) -> Agreement:
    try:
        return Agreement.SAME if _agree(left, right, {}) else Agreement.DIFFERENT
    except NotANumberError:
        return Agreement.UNKNOWN


_COUNTERS = frozenset({"n", "k", "m"})  # by convention whole numbers
_WHOLE_NUMBER_OPERATIONS = frozenset(
    {"!", "!!", "binom", "sum", "prod", "mod", "floor", "ceil", "gcd", "lcm"}
)


def _on_whole_numbers(
    left: Node, right: Node, names: list[str], default: Agreement = Agreement.DIFFERENT
) -> Agreement:
    """(-1)^n and cos(pi n) agree where they are meant to: at whole n."""
    counters = [name for name in names if name in _COUNTERS]
    if not counters or not (_is_for_whole_numbers(left) or _is_for_whole_numbers(right)):
        return default
    num_agreeing = 0
    for attempt in range(1, MAX_TRIES):
        point = {name: coordinate(name, attempt) for name in names}
        point |= {name: mp.mpf(attempt + 2 * index) for index, name in enumerate(counters)}
        try:
            if not _agree(left, right, point):
                return Agreement.DIFFERENT
        except NotANumberError:
            continue
        num_agreeing += 1
        if num_agreeing >= 2 * NUM_POINTS:
            return Agreement.SAME
    return default


def _is_for_whole_numbers(node: Node) -> bool:
    """Whether the tree has an operation that is meant for whole numbers, or a negative or circular power."""
    if not isinstance(node, Call):
        return False
    if node.name in _WHOLE_NUMBER_OPERATIONS:
        return True
    if node.name == "^" and isinstance(node.args[0], Call) and node.args[0].name == "neg":
        return True
    if node.name in ("sin", "cos", "tan") and "pi" in symbols_of(node):
        return True
    return any(_is_for_whole_numbers(argument) for argument in node.args)
