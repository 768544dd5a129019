"""The tree that an answer is read into. Small, immutable, and knows nothing of LaTeX, numbers or sympy."""

from dataclasses import dataclass
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
    """Several answers, in no order that matters."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: "tuple[tuple[Node, ...], ...]"


@dataclass(frozen=True, slots=True)
class Chain:
    """sides[0] ops[0] sides[1] ops[1] ...: an equation, an inequality, a membership."""

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
    r"""\\{element | conditions\\}."""

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


def symbols_of(node: Node) -> frozenset[str]:
    """Names of all symbols, constants included."""
    match node:
        case Sym(name):
            return frozenset({name})
        case Num() | Words() | Truth() | Clock() | Day() | Options():
            return frozenset()
        case Call(_, items) | Seq(items, _, _) | SetOf(items) | Listing(items) | Chain(items, _):
            return frozenset().union(*(symbols_of(item) for item in items))
        case Matrix(rows):
            return frozenset().union(*(symbols_of(item) for row in rows for item in row))
        case Quantity(value, _):
            return symbols_of(value)
        case Builder(element, conditions):
            return symbols_of(element).union(*(symbols_of(item) for item in conditions))
