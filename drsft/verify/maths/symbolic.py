"""Compares answers by symbolic algebra (math-verify, sympy) where parsing does not decide; checks by numbers.

The libraries are imported on demand: they load slowly, and most answers do not need them.
"""

import logging
import sys
from dataclasses import dataclass
from typing import Any

from drsft.verify import deadlines
from drsft.verify.maths.identity import Agreement, coordinate

__all__ = ["SymbolicFinding", "load", "symbolic"]

NUM_POINTS = 4
MAX_TRIES = 16
MAX_LEAVES = 200
RELATIVE_TOLERANCE = 1e-9
WORKING_DIGITS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolicFinding:
    """The result of symbolic algebra; numbers have confirmed or decided it if `is_checked`."""

    agreement: Agreement
    has_reference: bool  # whether the reference could be parsed
    is_checked: bool = False


def load() -> None:
    """Imports sympy and math-verify in advance, so that no case's time limit includes it."""
    if "math_verify" not in sys.modules:
        import math_verify  # noqa: F401

        logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of every call without a timeout
        deadlines.imports_done()


def symbolic(reference: str, answer: str) -> SymbolicFinding:
    """Returns math-verify's verdict on two answers; their values at random points overrule it, if any."""
    import math_verify

    first = _parsed(math_verify, reference)
    second = _parsed(math_verify, answer)
    if not first or not second:
        return SymbolicFinding(agreement=Agreement.UNKNOWN, has_reference=bool(first))
    is_accepted = bool(math_verify.verify(first, second, timeout_seconds=None))
    numbers = _by_numbers(first[0], second[0])
    is_checked = numbers is not Agreement.UNKNOWN
    # The numbers are a veto, or rescue what simplification could not show.
    agreement = numbers if is_checked else Agreement.of(is_accepted)
    return SymbolicFinding(agreement=agreement, has_reference=True, is_checked=is_checked)


def _parsed(math_verify: Any, answer: str) -> list[Any]:
    parsed = math_verify.parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return [item for item in parsed if not isinstance(item, str)]


def _by_numbers(left: Any, right: Any) -> Agreement:
    """Compares leaf by leaf at random points; UNKNOWN if the trees differ in shape or have no values."""
    first, second = _leaves(left), _leaves(right)
    if first is None or second is None or len(first) != len(second):
        return Agreement.UNKNOWN
    findings = {_same_leaf(a, b) for a, b in zip(first, second, strict=True)}
    if findings == {Agreement.SAME}:
        return Agreement.SAME
    return Agreement.DIFFERENT if Agreement.DIFFERENT in findings else Agreement.UNKNOWN


def _leaves(tree: Any) -> list[Any] | None:
    """Returns the numeric expressions of an expression, tuple or matrix; None for sets and relations."""
    import sympy

    if isinstance(tree, sympy.MatrixBase):
        return list(tree)[:MAX_LEAVES]
    if isinstance(tree, sympy.Tuple):
        return [leaf for item in tree for leaf in (_leaves(item) or [])][:MAX_LEAVES]
    if isinstance(tree, sympy.Expr) and not isinstance(tree, sympy.MatrixExpr):
        return [tree]
    return None


def _same_leaf(left: Any, right: Any) -> Agreement:
    import mpmath  # type: ignore[import-untyped]
    import sympy

    difference_symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    try:
        functions = [sympy.lambdify(difference_symbols, side, "mpmath") for side in (left, right)]
    except (SyntaxError, NameError, TypeError, ValueError):
        return Agreement.UNKNOWN
    num_agreeing = 0
    for attempt in range(MAX_TRIES):
        with mpmath.workdps(WORKING_DIGITS):
            point = [coordinate(str(symbol), attempt) for symbol in difference_symbols]
            try:
                values = [function(*point) for function in functions]
                is_close = abs(values[0] - values[1]) <= RELATIVE_TOLERANCE * max(abs(v) for v in values)
            except (ArithmeticError, TypeError, ValueError, NameError, AttributeError, KeyError):
                continue
        if not is_close:
            return Agreement.DIFFERENT
        num_agreeing += 1
        if num_agreeing == NUM_POINTS:
            return Agreement.SAME
    return Agreement.UNKNOWN
