"""Decides whether a parsed equation holds, fails, or cannot be judged by itself."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from drsft.verify.maths.evaluate import NotANumberError, TooLargeError, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, same_function
from drsft.verify.maths.syntax import Call, Chain, Node, Num, Quantity, Sym, symbols_of

__all__ = ["Checked", "Values", "check_chain"]

Checked = tuple[int, str, bool]  # where it stands, as written, whether it holds
Values = dict[str, Fraction]


def check_chain(chain: Chain, written: str, position: int, values: Values) -> Iterator[Checked]:
    if set(chain.ops) != {"="}:
        return
    for left, right in pairwise(chain.sides):
        finding = _check_pair(left, right, values)
        if finding is not None:
            yield position, written, finding


def _check_pair(left: Node, right: Node, values: Values) -> bool | None:
    """Returns True or False as a finding; None skips the step."""
    if isinstance(left, Quantity) and isinstance(right, Quantity) and left.unit != right.unit:
        return None
    left, right = (side.value if isinstance(side, Quantity) else side for side in (left, right))
    if isinstance(left, Sym) or isinstance(right, Sym):
        return None  # a definition: x = 5, e = 1/2
    if _has_unknown(left) or _has_unknown(right):
        return None
    names = (free_symbols(left) | free_symbols(right)) - {"dots"}
    if "dots" in symbols_of(left) | symbols_of(right) or {"e", "i"} & set(values):
        return None
    try:
        if not names:
            return _same_number(left, right)
        if names <= set(values) and all(len(name) == 1 for name in names):
            return _same_number(_substituted(left, values), _substituted(right, values))
        # An equation in unknowns may hold under conditions that the text gives elsewhere: only an identity is
        # a finding. (Demanding it of every step in long chains gave 3 % false alarms on MATH-500.)
        return True if same_function(left, right) is Agreement.SAME else None
    except TooLargeError:
        return None


def _same_number(left: Node, right: Node) -> bool | None:
    try:
        first, second = value_at(left, {}), value_at(right, {})
    except NotANumberError:
        return None
    scale = max(abs(first), abs(second), 1e-12)
    if abs(first - second) <= 1e-9 * scale:
        return True
    for side, value in ((right, first), (left, second)):
        places = _places(side)
        if places is not None:
            return bool(abs(first - second) <= 1.1 * 10.0**-places)
        if (
            isinstance(side, Call)
            and side.name == "%"
            and abs(value - 100 * value_at(side, {})) <= 1e-9 * abs(value)
        ):
            return True
    return False


def _places(node: Node) -> int | None:
    """Returns the decimal places of a side, the fewest of its numbers."""
    if isinstance(node, Num):
        return node.places
    if isinstance(node, Call):
        found = [places for item in node.args if (places := _places(item)) is not None]
        return min(found) if found else None
    return None


def _has_unknown(node: Node) -> bool:
    """Returns whether a side has an unknown function, a ratio or a number in another base."""
    if not isinstance(node, Call):
        return not isinstance(node, Num | Sym)
    if node.name.startswith("apply ") or node.name in (
        "ratio",
        "base",
        "mod",
        "pm",
        "mp",
        "union",
        "minus",
        "!!",
    ):
        return True
    return any(_has_unknown(item) for item in node.args)


def _substituted(node: Node, values: Values) -> Node:
    match node:
        case Sym(name) if name in values:
            return Num(values[name])
        case Call(name, arguments):
            return Call(name, tuple(_substituted(item, values) for item in arguments))
    return node
