r"""Compares values indexed by a whole number: "x = \pi/4 + k\pi, k \in Z" and "\{x \mid x = 4k, k \in
Z\}".
"""

from dataclasses import dataclass

from mpmath import mp  # type: ignore[import-untyped]

from drsft.verify.maths.evaluate import NotANumberError, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, close, same_function
from drsft.verify.maths.operations import WORKING_DIGITS, Value
from drsft.verify.maths.syntax import Builder, Call, Chain, Listing, Node, Sym, renamed_in

__all__ = ["Family", "family_of", "same_family"]

INTEGERS = ("bb(Z)", "Z", "bb(N)", "N")


@dataclass(frozen=True, slots=True)
class Family:
    """The values of `expression` for every `counter` in `domain` ("Z" or "N")."""

    expression: Node
    counter: str
    domain: str


def family_of(node: Node) -> Family | None:
    match node:
        case Listing((value, Chain((Sym(counter), Sym(domain)), ("in",)))) if domain in INTEGERS:
            expression = _value(value)
        case Builder(Sym(), (value, Chain((Sym(counter), Sym(domain)), ("in",)))) if domain in INTEGERS:
            expression = _value(value)
        case Builder(element, (Chain((Sym(counter), Sym(domain)), ("in",)),)) if domain in INTEGERS:
            expression = element
        case _:
            return None
    if expression is None or counter not in free_symbols(expression):
        return None
    return Family(expression, counter, domain.strip("b()"))


def _value(node: Node) -> Node | None:
    match node:
        case Chain((Sym(), value), ("=",)):
            return value
        case Call():
            return node
    return None


def same_family(first: Family, second: Family) -> Agreement:
    """Compares two families of values.

    Linear ones are compared by step and remainder, since 4k + 1 and 4k - 3 are one set, others term by term.
    """
    if first.domain != second.domain:
        return Agreement.DIFFERENT
    renamed = renamed_in(second.expression, second.counter, first.counter)
    if first.domain == "Z" and (lines := (_line(first), _line(second))) and lines[0] and lines[1]:
        (start, step), (other_start, other_step) = lines[0], lines[1]
        if not close(abs(step), abs(other_step)):
            return Agreement.DIFFERENT
        with mp.workdps(WORKING_DIGITS):
            turns = (start - other_start) / step
        return Agreement.of(abs(turns - mp.nint(turns)) < mp.mpf(10) ** -20)
    return same_function(first.expression, renamed)


def _line(family: Family) -> tuple[Value, Value] | None:
    if free_symbols(family.expression) != {family.counter}:
        return None
    try:
        values = [value_at(family.expression, {family.counter: mp.mpf(k)}, is_real=True) for k in (0, 1, 3)]
    except NotANumberError:
        return None
    with mp.workdps(WORKING_DIGITS):
        step = values[1] - values[0]
        is_line = step != 0 and close(values[2], values[0] + 3 * step)
    return (values[0], step) if is_line else None
