"""Defines the tree that an answer is parsed into: small, immutable, independent of LaTeX and sympy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, time
from fractions import Fraction
from typing import ClassVar

__all__ = [
    "Builder",
    "Call",
    "Chain",
    "Listing",
    "Matrix",
    "Node",
    "Num",
    "Quantity",
    "Said",
    "Seq",
    "SetOf",
    "Sym",
    "Words",
    "rebuilt",
    "renamed",
    "subtrees",
    "symbols_of",
]


class Node:
    """A node of an answer's tree, with the whole tree below it."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class Num(Node):
    value: Fraction
    places: int | None = None  # digits after the decimal point; None when none was written
    digits: int = 0  # significant digits of a decimal


@dataclass(frozen=True, slots=True)
class Sym(Node):
    name: str  # "x", "a_n", "pi", "e", "i", "inf"


@dataclass(frozen=True, slots=True)
class Call(Node):
    """An operation: "+", "*", "/", "^", "sin", "abs", "%", ... on its arguments."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Seq(Node):
    """Items in brackets: a tuple, a point, an interval. `left` and `right` are "" for TeX's braces { }."""

    items: tuple[Node, ...]
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class SetOf(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Listing(Node):
    """Several values without brackets, in any order: "1, 2", "3 or 5"."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Matrix(Node):
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """A chain of relations, sides[0] ops[0] sides[1] ops[1] ...: an equation, an inequality, a membership."""

    sides: tuple[Node, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words(Node):
    text: str


@dataclass(frozen=True, slots=True)
class Quantity(Node):
    """A value with the unit that was written after it."""

    value: Node
    unit: tuple[tuple[str, int], ...]  # names with their powers


@dataclass(frozen=True, slots=True)
class Builder(Node):
    r"""A set builder \\{element | conditions\\}."""

    element: Node
    conditions: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Said(Node):
    """A value given in words: true or false, a time of day, a date, or the labels of several options."""

    value: bool | time | date | frozenset[str]


def parts_of(node: Node) -> tuple[Node, ...]:
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
    """Returns the names of all symbols in a tree, constants such as pi included."""
    return frozenset(part.name for part in subtrees(node) if isinstance(part, Sym))


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """Returns the tree with `change` applied to each of its direct subtrees."""

    def changed(field: object) -> object:
        if isinstance(field, Node):
            return change(field)
        return tuple(map(changed, field)) if isinstance(field, tuple) else field

    return type(node)(*(changed(getattr(node, name)) for name in node.__match_args__))


def renamed(node: Node, old: str, new: str) -> Node:
    """Returns the tree with the symbol `old` renamed to `new`."""
    if isinstance(node, Sym):
        return Sym(new) if node.name == old else node
    return rebuilt(node, lambda part: renamed(part, old, new))
