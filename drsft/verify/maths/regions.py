r"""Compares sets of numbers: regions of the real line, and families with one number for each integer k.

A region is an interval, a union, "x \ne 5" or "-2 < x \le 7"; it is stored as its end points, and a test
whether a number belongs to it. A family is "x = \pi/4 + k\pi, k \in Z" or "\{x \mid x = 4k, k \in Z\}".
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mpmath import mp  # type: ignore[import-untyped]

from drsft.verify.maths.evaluate import WORKING_DIGITS, NotANumberError, Value, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, close, same_function
from drsft.verify.maths.syntax import Builder, Call, Chain, Listing, Node, Quantity, Seq, SetOf, Sym, renamed

__all__ = ["same_families", "same_regions"]


@dataclass(frozen=True, slots=True)
class Region:
    """A set of real numbers: `has` tells whether a number belongs to it, which only changes at `ends`."""

    ends: tuple[Any, ...]  # mpf, infinities included
    has: Callable[[Any], bool]


INTEGERS = ("bb(Z)", "Z", "bb(N)", "N")
REALS = Region((), lambda x: True)
SYMBOLIC_REALS = ("bb(R)", "R")
SET_RULES: dict[str, Callable[[Iterable[bool]], bool]] = {
    "union": any,
    "intersect": all,
    "minus": lambda found: list(found) == [True, False],
}
COMPARISONS = {
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "!=": operator.ne},
    **{")": operator.lt, "]": operator.le, "(": operator.gt, "[": operator.ge},
}


def same_regions(reference: Node, answer: Node) -> Agreement | None:
    """Compares the regions that two trees describe; None if one of them does not describe a region."""
    first, second = _region_of(reference), _region_of(answer)
    return None if first is None or second is None else Agreement.of(_is_same(first, second))


def _is_same(left: Region, right: Region) -> bool:
    """Tells whether two regions agree at the ends of both, between and outside of them."""
    groups: list[list[Any]] = []  # of ends that are close: one end, computed in several ways
    for end in sorted(end for end in {*left.ends, *right.ends} if mp.isfinite(end)):
        if groups and close(groups[-1][-1], end):
            groups[-1].append(end)
        else:
            groups.append([end])
    places: list[tuple[Any, ...]] = [
        tuple(next((x for x in group if x in side.ends), group[0]) for side in (left, right))
        for group in groups
    ]
    firsts = [group[0] for group in groups] or [mp.zero]
    with mp.workdps(WORKING_DIGITS):
        beyond = firsts[0] - 1 - abs(firsts[0]), firsts[-1] + 1 + abs(firsts[-1])
        places += [(x, x) for x in (*beyond, *((low + high) / 2 for low, high in pairwise(firsts)))]
    return all(left.has(x) == right.has(y) for x, y in places)


def _region_of(node: Node) -> Region | None:
    """Returns the region that a tree describes; None if it describes none, or an end is not a number."""
    try:
        return _region(node)
    except NotANumberError:
        return None


def _region(node: Node) -> Region | None:
    match node:
        case Quantity(value, _):
            return _region(value)
        case Seq((low, high), "(" | "[" as left, ")" | "]" as right):
            first, last = _end(low), _end(high)
            has_any = first < last or (first == last and left + right == "[]")
            return _combined([_ray(left, first), _ray(right, last)], all) if has_any else None
        case SetOf(items):
            points = tuple(_end(item) for item in items)
            return Region(points, lambda x: x in points)
        case Builder(Sym() | Chain() as element, conditions):
            stated = [element] if isinstance(element, Chain) else []
            return _combined([_region(condition) for condition in (*conditions, *stated)], all)
        case Sym(name) if name in SYMBOLIC_REALS:
            return REALS
        case Call("union" | "intersect" | "minus" as operation, parts):
            return _combined([_region(part) for part in parts], SET_RULES[operation])
        case Chain():
            return _solutions(node)
        case Listing(items) if all(isinstance(item, Chain) for item in items):
            # Several conditions: any of them holds, unless that says nothing at all; then all of them must.
            regions = [_region(item) for item in items]
            union = _combined(regions, any)
            return _combined(regions, all) if union is not None and _is_same(union, REALS) else union
    return None


def _combined(parts: list[Region | None], rule: Callable[[Iterable[bool]], bool]) -> Region | None:
    """Returns what the rule keeps of the parts; None if any part is not a region."""
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return None
    return Region(sum((part.ends for part in known), ()), lambda x: rule(part.has(x) for part in known))


def _ray(operation: str, end: Any, slope: int = 1) -> Region:
    compare = COMPARISONS[operation]
    return Region((end,), lambda x: compare(x, end) if slope > 0 else compare(end, x))


def _end(node: Node) -> Any:
    match node:
        case Sym("inf"):
            return mp.inf
        case Call("neg", (Sym("inf"),)):
            return mp.ninf
    if free_symbols(node):
        raise NotANumberError("an end of an interval is not a number")
    return value_at(node, {}, is_real=True)


def _solutions(chain: Chain) -> Region | None:
    """Returns the solutions of linear inequalities in one symbol, or the set of "x \\in ..."."""
    match chain:
        case Chain((_, container), ("in",)):
            return _region(container)
        case Chain((Call("abs", (inner,)), bound), ("<" | "<=" | ">" | ">=" as operation,)):
            sides = Chain((inner, bound), (operation,)), Chain((Call("neg", (inner,)), bound), (operation,))
            return _combined([_solutions(side) for side in sides], all if operation in ("<", "<=") else any)
    names = frozenset().union(*map(free_symbols, chain.sides))
    if len(names) != 1 or not set(chain.ops) <= {"<", ">", "<=", ">=", "!="}:
        return None
    (name,) = names
    return _combined(
        [
            _half_line(Call("-", (left, right)), operation, name)
            for left, operation, right in zip(chain.sides, chain.ops, chain.sides[1:], strict=False)
            if right != Sym("inf") and left != Call("neg", (Sym("inf"),))  # 2 < x < \infty
        ],
        all,
    )


def _half_line(difference: Node, operation: str, name: str) -> Region | None:
    """Returns where a linear `difference` satisfies the comparison with zero; None if it is not linear."""
    if (line := _line_of(difference, name)) is None:
        return None
    with mp.workdps(WORKING_DIGITS):
        root = -line[0] / line[1]
    return _ray(operation, root, mp.sign(line[1]))


def _line_of(node: Node, name: str) -> tuple[Value, Value] | None:
    """Returns the value at zero and the slope of a linear function; None if it is not linear."""
    with mp.workdps(WORKING_DIGITS):
        start, second, last = (value_at(node, {name: mp.mpf(x)}, is_real=True) for x in (0, 1, 3))
        slope = second - start
        return (start, slope) if slope and close(last, start + 3 * slope) else None


@dataclass(frozen=True, slots=True)
class Family:
    """A set of numbers: the values of `expression` for every value of `counter` in `domain` ("Z" or "N")."""

    expression: Node
    counter: str
    domain: str


def _family_of(node: Node) -> Family | None:
    match node:
        case Listing((Chain((Sym(), expression), ("=",)) | (Call() as expression), condition)):
            pass
        case Builder(Sym(), (Chain((Sym(), expression), ("=",)) | (Call() as expression), condition)):
            pass
        case Builder(expression, (condition,)):
            pass
        case _:
            return None
    match condition:
        case Chain((Sym(counter), Sym(domain)), ("in",)) if domain in INTEGERS:
            if counter in free_symbols(expression):
                return Family(expression, counter, domain.strip("b()"))
    return None


def same_families(reference: Node, answer: Node) -> Agreement | None:
    """Compares the families that two trees describe; None if one of them does not describe a family."""
    first, second = _family_of(reference), _family_of(answer)
    return None if first is None or second is None else _is_same_family(first, second)


def _is_same_family(first: Family, second: Family) -> Agreement:
    """Compares linear families by step and remainder (4k + 1 and 4k - 3 are one), others term by term."""
    if first.domain != second.domain:
        return Agreement.DIFFERENT
    if first.domain == "Z" and (line := _line(first)) and (other := _line(second)):
        (start, step), (other_start, other_step) = line, other
        if not close(abs(step), abs(other_step)):
            return Agreement.DIFFERENT
        with mp.workdps(WORKING_DIGITS):
            turns = (start - other_start) / step
        return Agreement.of(abs(turns - mp.nint(turns)) < mp.mpf(10) ** -20)
    return same_function(first.expression, renamed(second.expression, second.counter, first.counter))


def _line(family: Family) -> tuple[Value, Value] | None:
    try:
        has_others = free_symbols(family.expression) != {family.counter}
        return None if has_others else _line_of(family.expression, family.counter)
    except NotANumberError:
        return None
