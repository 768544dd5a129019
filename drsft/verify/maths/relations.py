"""Equations, inequalities and assignments: what they assert, and when two of them assert the same.

`same_relation` compares values with the function it is given, since a value may be any answer again.
"""

from collections.abc import Callable

from mpmath import mp  # type: ignore[import-untyped]

from drsft.verify.maths.evaluate import NotANumberError, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, close, coordinate
from drsft.verify.maths.regions import region_of, same_region
from drsft.verify.maths.scalars import is_scalar
from drsft.verify.maths.syntax import Call, Chain, Node, Seq, Sym, Words

__all__ = ["assignment", "is_name", "same_relation"]

SAME, DIFFERENT, UNKNOWN = Agreement.SAME, Agreement.DIFFERENT, Agreement.UNKNOWN
Comparison = Callable[[Node, Node], Agreement]

INEQUALITIES = frozenset({"<", ">", "<=", ">="})
NUM_EQUATION_POINTS = 6


def same_relation(reference: Node, answer: Node, same: Comparison) -> Agreement:
    if isinstance(reference, Chain) and isinstance(answer, Chain):
        return _same_chains(reference, answer, same)
    chain, other = (reference, answer) if isinstance(reference, Chain) else (answer, reference)
    assert isinstance(chain, Chain)
    if (pair := assignment(chain)) is not None:
        return same(pair[1], other)
    if set(chain.ops) <= INEQUALITIES | {"!=", "in"}:
        regions = region_of(chain), region_of(other)
        if regions[0] is not None and regions[1] is not None:
            return SAME if same_region(regions[0], regions[1]) else DIFFERENT
    return DIFFERENT  # an equation is not a value: a^2 + b = 0 is not 0, x^2 = 4 is not 4


def _same_chains(reference: Chain, answer: Chain, same: Comparison) -> Agreement:
    first, second = assignment(reference), assignment(answer)
    if first is not None and second is not None:
        finding = same(first[1], _renamed(second, first))
        if finding is SAME:
            return SAME
    regions = region_of(reference), region_of(answer)
    if regions[0] is not None and regions[1] is not None:
        return SAME if same_region(regions[0], regions[1]) else DIFFERENT
    if len(reference.ops) == len(answer.ops) == 1 and all(
        is_scalar(s) for s in reference.sides + answer.sides
    ):
        return _equivalent(reference, answer)
    if reference.ops == answer.ops:
        findings = [same(left, right) for left, right in zip(reference.sides, answer.sides, strict=True)]
        return DIFFERENT if DIFFERENT in findings else UNKNOWN if UNKNOWN in findings else SAME
    return DIFFERENT


def assignment(node: Node) -> tuple[Node, Node] | None:
    """Name and value of "x = 5", "f(x) = 2x", "z = 1 + 1 = 2" or "5 = x"; None for a true equation."""
    if not isinstance(node, Chain) or not set(node.ops) <= {"=", "equiv"}:
        return None
    name, value = node.sides[0], node.sides[-1]
    is_computation = is_scalar(name) and not free_symbols(name) and not free_symbols(value)  # 35 + 70 = 105
    if len(node.sides) > 2 or is_computation or is_name(name):
        return name, value
    if is_name(value) and not free_symbols(name):
        return value, name
    return None


def is_name(node: Node) -> bool:
    """Symbols without any number: x, AB, NO/BO, a+b, f(x), sin A, (p, q). Not x^2, 2x, x + 1."""
    match node:
        case Sym(name):
            return name not in ("pi", "e", "i", "inf")
        case Words():
            return True
        case Call(name, arguments) if name.startswith("apply "):
            return True
        case Call(name, arguments):
            return name not in ("%", "deg", "base") and all(is_name(item) for item in arguments)
        case Seq(items, _, _):
            return all(is_name(item) for item in items)
    return False


def _renamed(pair: tuple[Node, Node], model: tuple[Node, Node]) -> Node:
    """The value with the argument's name of the other side: f(n) = n is f(x) = x."""
    name, value = pair
    other, _ = model
    match name, other:
        case (Call(first, (Sym(old),)), Call(second, (Sym(new),))) if (
            first.startswith("apply ") and second.startswith("apply ") and old != new
        ):
            return _substituted(value, old, new)
    return value


def _substituted(node: Node, old: str, new: str) -> Node:
    match node:
        case Sym(name):
            return Sym(new) if name == old else node
        case Call(name, arguments):
            return Call(name, tuple(_substituted(item, old, new) for item in arguments))
    return node


def _equivalent(reference: Chain, answer: Chain) -> Agreement:
    """Two equations or inequalities whose differences are proportional (positively, for the latter)."""
    first, second = reference.ops[0], answer.ops[0]
    left, right = (Call("-", (chain.sides[0], chain.sides[1])) for chain in (reference, answer))
    if first in (">", ">="):
        first, left = {">": "<", ">=": "<="}[first], Call("neg", (left,))
    if second in (">", ">="):
        second, right = {">": "<", ">=": "<="}[second], Call("neg", (right,))
    if first != second:
        return DIFFERENT
    names = sorted(free_symbols(left) | free_symbols(right))
    factor = None
    num_agreeing = 0
    for attempt in range(4 * NUM_EQUATION_POINTS):
        point = {name: coordinate(name, attempt) for name in names}
        try:
            values = value_at(left, point), value_at(right, point)
        except NotANumberError:
            continue
        if not values[0] or not values[1]:
            return SAME if values[0] == values[1] else DIFFERENT
        ratio = values[0] / values[1]
        if factor is not None and not close(ratio, factor):
            return DIFFERENT
        factor = ratio
        num_agreeing += 1
        if num_agreeing == NUM_EQUATION_POINTS:
            is_oriented = first != "=" and first != "!="
            return DIFFERENT if is_oriented and not (mp.im(factor) == 0 and mp.re(factor) > 0) else SAME
    return UNKNOWN
