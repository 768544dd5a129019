"""Defines the tree that an answer is read into: small, immutable, independent of LaTeX, numbers and sympy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

__all__ = [
    "Builder",
    "Call",
    "Chain",
    "Clock",
    "Day",
    "Listing",
    "Matrix",
    "Node",
    "Num",
    "Options",
    "Quantity",
    "Seq",
    "SetOf",
    "Sym",
    "Truth",
    "Words",
    "rebuilt",
    "renamed_in",
    "subtrees",
    "symbols_of",
]


@dataclass(frozen=True, slots=True)
class Num:
    value: Fraction
    places: int | None = None  # digits after the decimal point; None when none was written
    digits: int = 0  # significant digits of a decimal


@dataclass(frozen=True, slots=True)
class Sym:
    name: str  # "x", "a_n", "pi", "e", "i", "inf"


@dataclass(frozen=True, slots=True)
class Call:
    """An operation: "+", "*", "/", "^", "sin", "abs", "%", ... on its arguments."""

    name: str
    args: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Seq:
    """Items between brackets: a tuple, a point, an interval. `left` is "" for TeX's invisible braces."""

    items: "tuple[Node, ...]"
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class SetOf:
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Listing:
    """Several answers, in any order."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: "tuple[tuple[Node, ...], ...]"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of relations, sides[0] ops[0] sides[1] ops[1] ...: an equation, an inequality, a membership."""

    sides: "tuple[Node, ...]"
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with the unit that was written after it."""

    value: "Node"
    unit: "tuple[tuple[str, int], ...]"  # names with their powers


@dataclass(frozen=True, slots=True)
class Builder:
    r"""A set builder \\{element | conditions\\}."""

    element: "Node"
    conditions: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day with its a.m. or p.m., in seconds since midnight."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the calendar."""

    date: date


@dataclass(frozen=True, slots=True)
class Options:
    """Numbers of statements, or letters of options."""

    labels: frozenset[str]


Node = (
    Truth
    | Clock
    | Day
    | Options
    | Builder
    | Num
    | Sym
    | Call
    | Seq
    | SetOf
    | Listing
    | Matrix
    | Chain
    | Words
    | Quantity
)


def parts_of(node: Node) -> "tuple[Node, ...]":
    """Returns the direct subtrees of a tree."""
    match node:
        case Call(_, parts) | Seq(parts, _, _) | SetOf(parts) | Listing(parts) | Chain(parts, _):
            return parts
        case Matrix(rows):
            return tuple(item for row in rows for item in row)
        case Quantity(value, _):
            return (value,)
        case Builder(element, conditions):
            return (element, *conditions)
    return ()


def subtrees(node: Node) -> Iterator[Node]:
    """Yields the tree and every tree within it."""
    waiting = [node]
    while waiting:
        yield (node := waiting.pop())
        waiting.extend(parts_of(node))


def symbols_of(node: Node) -> frozenset[str]:
    """Returns the names of all symbols, constants included."""
    return frozenset(part.name for part in subtrees(node) if isinstance(part, Sym))


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """Returns the tree with `change` applied to each of its parts; a matrix stays unchanged."""
    match node:
        case Call(_, parts):
            return replace(node, args=tuple(map(change, parts)))
        case Chain(parts, _):
            return replace(node, sides=tuple(map(change, parts)))
        case Listing(parts) | SetOf(parts) | Seq(parts, _, _):
            return replace(node, items=tuple(map(change, parts)))
        case Builder(element, conditions):
            return Builder(change(element), tuple(map(change, conditions)))
        case Quantity(value, _):
            return replace(node, value=change(value))
    return node


def renamed_in(node: Node, old: str, new: str) -> Node:
    """Returns the tree with one symbol's name changed."""
    if isinstance(node, Sym):
        return Sym(new) if node.name == old else node
    return rebuilt(node, lambda part: renamed_in(part, old, new))
