"""Compares equations, inequalities and assignments by what they assert.

`same_relation` compares values with a function that it is given, since a value can be any answer.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from mpmath import mp  # type: ignore[import-untyped]

from drsft.verify.maths.evaluate import NotANumberError, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, close, coordinate
from drsft.verify.maths.regions import same_regions
from drsft.verify.maths.syntax import Call, Chain, Node, Num, Seq, Sym, Words, renamed
from drsft.verify.maths.values import is_scalar

__all__ = ["assignment", "is_name", "same_relation"]

SAME, DIFFERENT, UNKNOWN = Agreement.SAME, Agreement.DIFFERENT, Agreement.UNKNOWN
Comparison = Callable[[Node, Node], Agreement]

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
NUM_EQUATION_POINTS = 6


def same_relation(reference: Node, answer: Node, same: Comparison) -> Agreement:
    if _modulus(reference) != _modulus(answer):
        return DIFFERENT
    if isinstance(reference, Chain) and isinstance(answer, Chain):
        return _same_chains(reference, answer, same)
    chain, other = (reference, answer) if isinstance(reference, Chain) else (answer, reference)
    assert isinstance(chain, Chain)
    if (pair := assignment(chain)) is not None:
        return same(pair[1], other)
    is_computation = set(chain.ops) == {"="} and all(is_scalar(side) for side in chain.sides)
    if is_computation and same(chain.sides[0], chain.sides[-1]) is SAME:
        return same(chain.sides[-1], other)  # -(a + 3) = -a - 3
    # An equation has no region and is not a value: a^2 + b = 0 is not 0, x^2 = 4 is not 4.
    return same_regions(chain, other) or DIFFERENT


def _modulus(node: Node) -> Node | None:
    r"""Returns the 4 of "n \equiv 3 \pmod 4" and "3 \pmod 4"; None for a computation and anything else."""
    is_class = isinstance(node, Chain) and "equiv" in node.ops and bool(free_symbols(node.sides[0]))
    value = node.sides[-1] if isinstance(node, Chain) and is_class else node
    return value.args[1] if isinstance(value, Call) and value.name == "mod" else None


def _same_chains(reference: Chain, answer: Chain, same: Comparison) -> Agreement:
    first, second = assignment(reference), assignment(answer)
    sides = reference.sides + answer.sides
    has_symbols = any(map(free_symbols, sides))
    if first and second:
        (name, value), (other, other_value) = first, second
        if not has_symbols and all(is_scalar(side) and not is_name(side) for side in (name, other)):
            return _same_statement(reference, answer, same)
        is_constant = not free_symbols(other_value)
        may_be_same = _may_be_same_name(name, other, is_constant=is_constant)
        if may_be_same and same(value, _renamed(other_value, other, name)) is SAME:
            return SAME
        if name != other and _is_of_event(name) and _is_of_event(other):
            return DIFFERENT  # P(X > 2) is not P(X < 2)
    if has_symbols:
        if (finding := same_regions(reference, answer)) is not None:
            return finding
        if len(reference.ops) == len(answer.ops) == 1 and all(map(is_scalar, sides)):
            return _equivalent(reference, answer)
    return _same_statement(reference, answer, same)


def _may_be_same_name(first: Node, second: Node, *, is_constant: bool) -> bool:
    """Returns whether names may differ: A = 5 is B = 5, but f(2) = 5 is not f(3) = 5, nor a_1 = 5 S_1 = 5."""
    calls = [node for node in (first, second) if isinstance(node, Call)]
    functions = [node for node in calls if node.name.startswith("apply ")]
    if first == second:
        return True
    if len(functions) == 2 and (not any(map(free_symbols, functions)) or any(map(_is_of_event, functions))):
        return False
    if len({node.name for node in functions}) > len({node.name[: len("apply f")] for node in functions}):
        return False  # f^{-1} and f' are not f
    if len(functions) == 1 and isinstance(first, Sym) | isinstance(second, Sym):
        return not is_constant  # y = 2x is f(x) = 2x, but x = 6 is not E(X) = 6
    if not (free_symbols(first) and free_symbols(second)):
        return True
    if not (isinstance(first, Call) or isinstance(second, Call)):
        return not all(isinstance(node, Sym) and re.search(r"_\d+$", node.name) for node in (first, second))
    if not functions:
        return False
    arguments = [argument for node in functions for argument in node.args]
    return len(functions) == 2 and all(isinstance(argument, Sym) for argument in arguments)


def _is_of_event(node: Node) -> bool:
    """Returns whether a call is a value, as P(A), P(X > 2) and E(X), and not a rule as f(x)."""
    return isinstance(node, Call) and any(
        isinstance(item, Chain) or (isinstance(item, Sym) and item.name.isupper()) for item in node.args
    )


def _same_statement(reference: Chain, answer: Chain, same: Comparison) -> Agreement:
    """Compares statements side by side, from either end; those about numbers all hold or fail."""
    if reference.ops == answer.ops:
        return Agreement.of_all(map(same, reference.sides, answer.sides))
    if [FLIPPED.get(op, op) for op in reversed(reference.ops)] == list(answer.ops):
        return Agreement.of_all(map(same, reference.sides, reversed(answer.sides)))
    return DIFFERENT


def assignment(node: Node) -> tuple[Node, Node] | None:
    """Returns name and value of "x = 5" or "5 = x", and z and 2 of "z = 1 + 1 = 2"; None for other trees."""
    if not isinstance(node, Chain) or not set(node.ops) <= {"=", "equiv"}:
        return None
    name, value = node.sides[0], node.sides[-1]
    if value == Num(Fraction(0)) and isinstance(name, Call) and name.name in ("+", "-", "*", "neg"):
        return None  # an equation set to zero
    is_computation = is_scalar(name) and not free_symbols(name) and not free_symbols(value)  # 35 + 70 = 105
    if len(node.sides) > 2 or is_computation or is_name(name):
        return name, value
    if is_name(value) and not free_symbols(name):
        return value, name
    return None


def is_name(node: Node) -> bool:
    """Returns whether a tree is a name: x, AB, NO/BO, a+b, f(x), sin A, (p, q); not x^2, 2x or x + 1."""
    match node:
        case Sym(name):
            return name not in ("pi", "e", "i", "inf")
        case Words():
            return True
        case Call(name, arguments) if name.startswith("apply "):
            return True
        case Call("+" | "-", arguments):
            return not all(isinstance(item, Sym) and item.name in "xyz" for item in arguments) and all(
                is_name(item) for item in arguments
            )  # AB + BC = 10 names a length, x + y = 10 is a line
        case Call(name, arguments):
            return name not in ("neg", "%", "deg", "base") and all(is_name(item) for item in arguments)
        case Seq(items, _, _):
            return all(is_name(item) for item in items)
    return False


def _renamed(value: Node, name: Node, other: Node) -> Node:
    """Returns the value with the argument named as on the other side: f(n) = n becomes f(x) = x."""
    match name, other:
        case (Call(first, (Sym(old),)), Call(second, (Sym(new),))) if (
            first.startswith("apply ") and second.startswith("apply ") and old != new
        ):
            return renamed(value, old, new)
    return value


def _equivalent(reference: Chain, answer: Chain) -> Agreement:
    """Compares equations or inequalities: their differences must be proportional, the latter positively."""
    first, second = reference.ops[0], answer.ops[0]
    left, right = (Call("-", (chain.sides[0], chain.sides[1])) for chain in (reference, answer))
    if first in (">", ">="):
        first, left = FLIPPED[first], Call("neg", (left,))
    if second in (">", ">="):
        second, right = FLIPPED[second], Call("neg", (right,))
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
