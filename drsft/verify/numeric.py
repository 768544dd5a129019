"""A number within a tolerance: "9.81 m/s^2", "3.2 ± 0.1", "2.998e8"."""

import re

from drsft.records import Outcome, Verdict
from drsft.verify.maths.evaluate import NotANumberError, TooLargeError, free_symbols, value_at
from drsft.verify.maths.find import find_answer
from drsft.verify.maths.lexer import UnreadableError
from drsft.verify.maths.reader import read
from drsft.verify.maths.surface import clean
from drsft.verify.maths.syntax import Call, Chain, Node, Num, Quantity, Sym
from drsft.verify.maths.units import factor_between
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case

__all__ = ["judge_numeric", "parse_numeric"]

_TOLERANCE = re.compile(r"(.+?)\s*(?:±|\\pm|\+/-|\+-)\s*([\d.eE+-]+)\s*(.*)", re.DOTALL)
UNIT_SYMBOLS = frozenset("msgNJWVAKLhCT")


def judge_numeric(case: Case, options: VerifyOptions) -> Verdict:
    """CORRECT within the reference's own tolerance, or the options' relative and absolute ones."""
    expected = parse_numeric(case.reference)
    if expected is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="reference is not a number")
    value, unit, tolerance = expected
    found = find_answer(case.text, is_box_required=options.require_box)
    if found is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no answer found")
    measured = _measure(found.text)
    if measured is None:
        return Verdict(outcome=Outcome.WRONG, reason="answer is not a number", answer=found.text)
    answer, answer_unit = measured
    factor = factor_between(answer_unit, unit) if unit and answer_unit else 1
    if factor is None:
        return Verdict(outcome=Outcome.WRONG, reason="unit of another dimension", answer=found.text)
    if tolerance is None:
        tolerance = max(options.absolute_tolerance, options.relative_tolerance * abs(value))
    # One part in 10^12 for the representation of the numbers themselves: 3.3 is within 3.2 ± 0.1.
    is_within = abs(answer * float(factor) - value) <= tolerance * (1 + 1e-12) + 1e-12 * abs(value)
    outcome = Outcome.CORRECT if is_within else Outcome.WRONG
    return Verdict(
        outcome=outcome, reason="within" if is_within else "outside the tolerance", answer=found.text
    )


def parse_numeric(reference: str) -> tuple[float, str, float | None] | None:
    """Value, unit ("" for none) and the tolerance that the reference itself gives."""
    tolerance: float | None = None
    match = _TOLERANCE.fullmatch(reference.strip())
    if match is not None:
        try:
            tolerance = float(match[2])
        except ValueError:
            return None
        reference = f"{match[1]} {match[3]}"
    measured = _measure(reference)
    return None if measured is None else (*measured, tolerance)


def _measure(text: str) -> tuple[float, str] | None:
    """Value and unit of a written number; the right-hand side of "v = 3 m"."""
    try:
        node = read(clean(text))
        if isinstance(node, Chain):
            node = node.sides[-1]
        node, unit = (node.value, node.unit) if isinstance(node, Quantity) else _split_symbol_unit(node)
        if free_symbols(node):
            return None
        return float(value_at(node, {}, is_real=True)), unit
    except (UnreadableError, NotANumberError, TooLargeError, OverflowError, TypeError):
        return None


def _split_symbol_unit(node: Node) -> tuple[Node, str]:
    """ "9.81 m/s^2" reads as a product with symbols; those that are unit letters are its unit."""
    match node:
        case Call("*" | "/" as operator, (value, Sym(name))) if name in UNIT_SYMBOLS:
            inner, unit = _split_symbol_unit(value)
            return inner, unit + ("/" if operator == "/" else "") + name
        case Call("*" | "/" as operator, (value, Call("^", (Sym(name), Num(power))))) if name in UNIT_SYMBOLS:
            inner, unit = _split_symbol_unit(value)
            return inner, unit + ("/" if operator == "/" else "") + f"{name}^{power}"
    return node, ""
