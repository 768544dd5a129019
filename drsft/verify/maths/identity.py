"""Tests at random points whether two expressions are the same function.

Agreement to AGREE_DIGITS at several points is, for expressions of an answer's size, as good as a proof, and
one clear disagreement is a refutation.
"""

import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache

from mpmath import mp  # type: ignore[import-untyped]

from drsft.verify.maths.evaluate import WORKING_DIGITS, NotANumberError, Value, free_symbols, value_at
from drsft.verify.maths.syntax import Call, Node, subtrees, symbols_of

__all__ = ["Agreement", "close", "coordinate", "same_function"]

AGREE_DIGITS = 20  # half of the working digits may be lost to cancellation before two equals look different
NUM_POINTS = 4  # that must agree
MAX_TRIES = 24
NOISE = 1e-30  # smaller values may be zero, spoilt by cancellation at WORKING_DIGITS


class Agreement(Enum):
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    INCOMPARABLE = "incomparable"  # the same number of other things, or other sentences

    @classmethod
    def of(cls, is_same: bool) -> "Agreement":
        return cls.SAME if is_same else cls.DIFFERENT

    @classmethod
    def of_all(cls, findings: Iterable["Agreement"]) -> "Agreement":
        """Returns the first of DIFFERENT, UNKNOWN and INCOMPARABLE that is among the findings, else SAME."""
        found = set(findings)
        return next((one for one in (cls.DIFFERENT, cls.UNKNOWN, cls.INCOMPARABLE) if one in found), cls.SAME)


def close(left: Value, right: Value, *, digits: int = AGREE_DIGITS) -> bool:
    """Returns whether two values agree to `digits` digits, however small they are; 0 only agrees with 0."""
    with mp.workdps(WORKING_DIGITS):
        return bool(abs(left - right) <= max(abs(left), abs(right)) * mp.mpf(10) ** -digits)


def _agree(left: Node, right: Node, point: Mapping[str, Value], *, is_real: bool = False) -> bool:
    """Returns whether the trees are close at a point. Raises NotANumberError."""
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
    """Returns a symbol's pseudo-random value: positive on even attempts, of either sign on odd ones."""
    digest = hashlib.blake2b(f"{name}/{attempt}".encode(), digest_size=8).digest()
    fraction = mp.mpf(int.from_bytes(digest, "big")) / 2**64
    with mp.workdps(WORKING_DIGITS):
        value = mp.mpf("0.3") + mp.mpf("2.9") * fraction + mp.mpf(1) / 7919
        if attempt % 4 == 2:
            value = value + 5
        return -value if attempt % 2 and digest[0] & 1 else value


def same_function(left: Node, right: Node) -> Agreement:
    """Compares the values of two expressions at random points; UNKNOWN if too few points have both values.

    Points are real and only count where no part of either has a complex value, so sqrt(x)sqrt(y) is
    sqrt(xy), but sqrt(x^2) is not x. Expressions that are never real are compared as complex ones.
    """
    names = sorted(free_symbols(left) | free_symbols(right))
    if not names:
        try:
            return Agreement.of(_agree(left, right, {}))
        except NotANumberError:
            return Agreement.UNKNOWN
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


_COUNTERS = frozenset({"n", "k", "m"})  # by convention whole numbers
_WHOLE_NUMBER_OPERATIONS = frozenset(
    {"!", "!!", "binom", "sum", "prod", "mod", "floor", "ceil", "gcd", "lcm"}
)


def _on_whole_numbers(
    left: Node, right: Node, names: list[str], default: Agreement = Agreement.DIFFERENT
) -> Agreement:
    """Compares at whole numbers expressions that are meant for them, such as (-1)^n and cos(pi n)."""
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
    """Returns whether the tree has an operation for whole numbers, or a negative or circular power."""
    for part in subtrees(node):
        match part:
            case Call(name, _) if name in _WHOLE_NUMBER_OPERATIONS:
                return True
            case Call("^", (Call("neg", _), _)):
                return True
            case Call("sin" | "cos" | "tan", _) if "pi" in symbols_of(part):
                return True
    return False
