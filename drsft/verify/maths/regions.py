r"""Represents subsets of the real line (intervals, unions, "x \ne 5", "-2 < x \le 7") as lists of pieces."""

from dataclasses import dataclass
from typing import Any

from mpmath import mp  # type: ignore[import-untyped]

from drsft.verify.maths.evaluate import NotANumberError, free_symbols, value_at
from drsft.verify.maths.identity import close
from drsft.verify.maths.syntax import Builder, Call, Chain, Listing, Node, Quantity, Seq, SetOf, Sym

__all__ = ["FLIPPED", "Piece", "region_of", "same_region"]


@dataclass(frozen=True, slots=True)
class Piece:
    low: Any  # mpf, -inf included
    has_low: bool
    high: Any
    has_high: bool


Region = list[Piece]
FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
SYMBOLIC_REALS = ("bb(R)", "R")


def same_region(left: Region, right: Region) -> bool:
    left, right = _merged(left), _merged(right)
    return len(left) == len(right) and all(_same_piece(a, b) for a, b in zip(left, right, strict=True))


def region_of(node: Node) -> Region | None:
    """Returns the region that a tree describes; None if it is none, or its ends are not numbers."""
    try:
        return _region(node)
    except NotANumberError:
        return None


def _region(node: Node) -> Region | None:
    match node:
        case Quantity(value, _):
            return _region(value)
        case Seq((low, high), "(" | "[" as left, ")" | "]" as right):
            ends = _end(low), _end(high)
            return [Piece(ends[0], left == "[", ends[1], right == "]")] if ends[0] <= ends[1] else None
        case SetOf(items):
            points = [_end(item) for item in items]
            return [Piece(point, True, point, True) for point in points]
        case Builder(Sym() | Chain() as element, conditions):
            region: Region | None = [Piece(mp.ninf, False, mp.inf, False)]
            for condition in (*conditions, *([element] if isinstance(element, Chain) else [])):
                part = _region(condition)
                region = None if part is None or region is None else _intersection(region, part)
            return region
        case Sym(name) if name in SYMBOLIC_REALS:
            return [Piece(mp.ninf, False, mp.inf, False)]
        case Call("union" | "intersect" | "minus" as operator, (first, second)):
            left_region, right_region = _region(first), _region(second)
            if left_region is None or right_region is None:
                return None
            if operator == "union":
                return left_region + right_region
            if operator == "minus":
                right_region = _complement(right_region)
            return _intersection(left_region, right_region)
        case Chain():
            return _solutions(node)
        case Listing(items) if all(isinstance(item, Chain) for item in items):
            return _combined([_region(item) for item in items])
    return None


def _end(node: Node) -> Any:
    match node:
        case Sym("inf"):
            return mp.inf
        case Call("neg", (Sym("inf"),)):
            return mp.ninf
    if free_symbols(node):
        raise NotANumberError("symbolic end")
    return value_at(node, {}, is_real=True)


def _combined(regions: list[Region | None]) -> Region | None:
    """Combines conditions: any may hold, unless that covers the whole line; then all must."""
    if any(region is None for region in regions):
        return None
    known = [region for region in regions if region is not None]
    union = _merged([piece for region in known for piece in region])
    if len(union) == 1 and union[0].low == mp.ninf and union[0].high == mp.inf:
        meeting = known[0]
        for region in known[1:]:
            meeting = _intersection(meeting, region)
        return meeting
    return union


def _solutions(chain: Chain) -> Region | None:
    """Returns the solutions of linear inequalities in one symbol, or the set of "x \\in ..."."""
    if chain.ops == ("in",):
        return _region(chain.sides[1])
    match chain:
        case Chain((Call("abs", (inner,)), bound), ("<" | "<=" as inside,)):
            return _solutions(Chain((Call("neg", (bound,)), inner, bound), (inside, inside)))
        case Chain((Call("abs", (inner,)), bound), (">" | ">=" as beyond,)):
            sides = Chain((inner, bound), (beyond,)), Chain((Call("neg", (bound,)), inner), (beyond,))
            return _combined([_solutions(side) for side in sides])
    names = frozenset().union(*(free_symbols(side) for side in chain.sides)) - {"inf"}
    if len(names) != 1 or not set(chain.ops) <= {"<", ">", "<=", ">=", "!="}:
        return None
    (name,) = names
    region: Region = [Piece(mp.ninf, False, mp.inf, False)]
    for left, operator, right in zip(chain.sides, chain.ops, chain.sides[1:], strict=False):
        if right == Sym("inf") or left == Call("neg", (Sym("inf"),)):
            continue  # 2 < x < \infty
        piece = _half_line(Call("-", (left, right)), operator, name)
        if piece is None:
            return None
        region = _intersection(region, piece)
    return region


def _half_line(difference: Node, operator: str, name: str) -> Region | None:
    """Returns where a linear `difference` satisfies the comparison with zero; None if it is not linear."""
    at = [value_at(difference, {name: mp.mpf(x)}, is_real=True) for x in (0, 1, 3)]
    slope = at[1] - at[0]
    if not slope or not close(at[2], at[0] + 3 * slope):
        return None
    root = -at[0] / slope
    if slope < 0:
        operator = FLIPPED.get(operator, operator)
    match operator:
        case "<" | "<=":
            return [Piece(mp.ninf, False, root, operator == "<=")]
        case ">" | ">=":
            return [Piece(root, operator == ">=", mp.inf, False)]
    return [Piece(mp.ninf, False, root, False), Piece(root, False, mp.inf, False)]


def _merged(region: Region) -> Region:
    """Returns the region sorted, with touching pieces joined."""
    pieces = sorted(region, key=lambda piece: (piece.low, not piece.has_low))
    merged: Region = []
    for piece in pieces:
        if merged:
            last = merged[-1]
            touches = last.high > piece.low or (last.high == piece.low and (last.has_high or piece.has_low))
            if touches:
                if (piece.high, piece.has_high) > (last.high, last.has_high):
                    merged[-1] = Piece(last.low, last.has_low, piece.high, piece.has_high)
                continue
        merged.append(piece)
    return merged


def _intersection(left: Region, right: Region) -> Region:
    pieces = []
    for a in left:
        for b in right:
            low, has_low = max((a.low, not a.has_low), (b.low, not b.has_low))
            high, has_high = min((a.high, a.has_high), (b.high, b.has_high))
            if low < high or (low == high and not has_low and has_high):
                pieces.append(Piece(low, not has_low, high, has_high))
    return pieces


def _complement(region: Region) -> Region:
    low, has_low = mp.ninf, False
    gaps: Region = []
    for piece in _merged(region):
        if low < piece.low or (low == piece.low and has_low and not piece.has_low):
            gaps.append(Piece(low, has_low, piece.low, not piece.has_low))
        low, has_low = piece.high, not piece.has_high
    if low < mp.inf:
        gaps.append(Piece(low, has_low, mp.inf, False))
    return gaps


def _same_piece(left: Piece, right: Piece) -> bool:
    return (
        left.has_low == right.has_low
        and left.has_high == right.has_high
        and _same_end(left.low, right.low)
        and _same_end(left.high, right.high)
    )


def _same_end(left: Any, right: Any) -> bool:
    if mp.isinf(left) or mp.isinf(right):
        return bool(left == right)
    return close(left, right)
