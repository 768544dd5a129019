"""Compares two trees as answers: COMPARISONS has the rule for each pair of types that can be equal."""

from collections.abc import Callable, Sequence
from datetime import time
from functools import partial

from drsft.verify.maths.answer import AnswerType, type_of
from drsft.verify.maths.evaluate import free_symbols
from drsft.verify.maths.identity import Agreement
from drsft.verify.maths.regions import same_families, same_regions
from drsft.verify.maths.relations import assignment, is_name, same_relation
from drsft.verify.maths.syntax import (
    Builder,
    Call,
    Chain,
    Listing,
    Matrix,
    Node,
    Num,
    Quantity,
    Said,
    Seq,
    SetOf,
    Sym,
    Words,
    rebuilt,
    renamed,
    subtrees,
)
from drsft.verify.maths.units import CURRENCIES, factor_between, is_label
from drsft.verify.maths.values import decimal_of, is_rounded, is_scalar, same_scalar
from drsft.verify.words import label_of

__all__ = ["COMPARISONS", "comparison_of", "same_answer", "total_of"]

SAME, DIFFERENT, UNKNOWN = Agreement.SAME, Agreement.DIFFERENT, Agreement.UNKNOWN
MAX_ITEMS = 200
EMPTY = Sym("emptyset")
SIGNS = ("pm", "mp")
Comparison = Callable[[Node, Node], Agreement]


def same_answer(reference: Node, answer: Node) -> Agreement:
    """Compares two trees as answers. With UNKNOWN, symbolic algebra has to decide."""
    if reference == answer:
        return SAME  # before any unit is converted or any function evaluated
    for shortcut in (_same_by_name, _same_compound, same_families):
        if (finding := shortcut(reference, answer)) is not None:
            return finding
    if (rounded := _approximation(answer)) is not None and same_answer(reference, rounded) is SAME:
        return SAME
    reference, answer = _plain(reference), _plain(answer)
    if reference == answer:
        return SAME
    comparison = COMPARISONS.get(frozenset((type_of(reference), type_of(answer))))
    return DIFFERENT if comparison is None else comparison(reference, answer)


def comparison_of(reference: Node, answer: Node) -> tuple[AnswerType, AnswerType, Comparison | None]:
    """Returns the types of two simplified answers, and the function to compare them (None: never equal)."""
    first, second = type_of(_plain(reference)), type_of(_plain(answer))
    return first, second, COMPARISONS.get(frozenset((first, second)))


def _approximation(node: Node) -> Node | None:
    r"""Returns the decimal after the last \approx if it rounds what is before: \sqrt{7} \approx 2.65."""
    if not isinstance(node, Chain) or node.ops[-1] != "approx":
        return None
    value, decimal = node.sides[-2:]
    written = decimal_of(decimal)
    return decimal if written is not None and is_rounded(value, written) else None


def _same_said(reference: Node, answer: Node) -> Agreement:
    """Compares a time with a number or ratio on a 12-hour clock, and labels such as (1)(3) with numbers."""
    said, other = (reference, answer) if isinstance(reference, Said) else (answer, reference)
    match said:
        case Said(time() as clock):
            seconds = clock.hour % 12 * 3600 + clock.minute * 60 + clock.second
            return Agreement.of(_on_clock(other) == seconds)
        case Said(frozenset() as labels):
            items = _items(other) or (other,)
            numbers = [str(item.value) for item in items if isinstance(item, Num)]
            return Agreement.of(set(numbers) == labels and len(labels) == len(items))
    return DIFFERENT  # from another truth or day


def _on_clock(node: Node) -> int | None:
    """Returns the seconds since twelve of "4:35" or of a whole hour; None for anything else."""
    match node:
        case Call("ratio", (Num(hour), Num(minutes))) if hour.denominator == minutes.denominator == 1:
            return int(hour % 12 * 3600 + minutes * 60)
        case Num(hour, None) if hour.denominator == 1:
            return int(hour % 12 * 3600)
    return None


def _same_compound(reference: Node, answer: Node) -> Agreement | None:
    """Compares 2 hours 45 minutes as one quantity, "5 red, 9 blue" label by label; None for others."""
    if not (isinstance(reference, Listing) or isinstance(answer, Listing)):
        return None
    first, second = _quantities(reference), _quantities(answer)
    if first is None or second is None:
        parts, other = (second or (), reference) if first is None else (first, answer)
        is_mixed = 1 < len(parts) == len({part.unit for part in parts})  # each number has its own unit
        if is_mixed and isinstance(other, Listing | SetOf):
            values = [part.value for part in parts]
            return _all_same(values, other.items) if len(values) == len(other.items) else DIFFERENT
        # 4 dollars 35 cents is 4.35; a bare number of hours and minutes is neither
        is_money = all(name in CURRENCIES for part in parts for name, _ in part.unit)
        total = total_of(parts) if len(parts) > 1 and isinstance(other, Num) and is_money else None
        return None if total is None else same_scalar(total.value, other)
    if len(first) == len(second) > 1 and any(is_label(quantity.unit) for quantity in (*first, *second)):
        return _matched_labels(first, second)
    if len(first) == 1 and len(second) == 1:
        return None
    sums = total_of(first), total_of(second)
    if sums[0] is None or sums[1] is None:
        return None
    return same_scalar(sums[0], sums[1])


def _quantities(node: Node) -> tuple[Quantity, ...] | None:
    items = node.items if isinstance(node, Listing) else (node,)
    quantities = tuple(_labelled(item) for item in items)
    known = tuple(item for item in quantities if isinstance(item, Quantity))
    return known if len(known) == len(items) else None


def _labelled(node: Node) -> Node:
    """Returns "cows: 7" as the quantity 7 cows; other trees unchanged."""
    match node:
        case Chain((Words(label), Num() as value), ("=",)):
            return Quantity(value, ((label_of(label), 1),))
    return node


def _matched_labels(first: tuple[Quantity, ...], second: tuple[Quantity, ...]) -> Agreement:
    """Compares labelled values: the same labels, each once, with the same values."""
    records = [{quantity.unit: quantity.value for quantity in side} for side in (first, second)]
    if records[0].keys() != records[1].keys() or len(records[0]) != len(first):
        return DIFFERENT
    return _all_same(list(records[0].values()), [records[1][unit] for unit in records[0]])


def total_of(quantities: tuple[Quantity, ...]) -> Quantity | None:
    """Returns the sum of quantities in the first one's unit; None if a unit repeats or does not convert."""
    head, *rest = quantities
    if len({quantity.unit for quantity in quantities}) != len(quantities):
        return None
    total = head.value
    for quantity in rest:
        factor = factor_between(quantity.unit, head.unit)
        if factor is None:
            return None
        total = Call("+", (total, Call("*", (Num(factor), quantity.value))))
    return Quantity(total, head.unit)


def _same_builders(reference: Node, answer: Node) -> Agreement:
    """Compares set builders: equal elements under equal conditions, whatever the bound letters."""
    if not (isinstance(reference, Builder) and isinstance(answer, Builder)):
        other = answer if isinstance(reference, Builder) else reference
        return UNKNOWN if isinstance(other, Call) and not is_scalar(other) else DIFFERENT
    first, second = sorted(free_symbols(reference)), sorted(free_symbols(answer))
    if len(reference.conditions) != len(answer.conditions) or len(first) != len(second):
        return UNKNOWN
    left, right = ((node.element, *node.conditions) for node in (reference, answer))
    if isinstance(reference.element, Sym) and isinstance(answer.element, Sym):
        new, old = reference.element.name, answer.element.name
        right = (reference.element, *(renamed(condition, old, new) for condition in answer.conditions))
    return SAME if left == right or _all_same(left, right) is SAME else UNKNOWN


def _plain(node: Node) -> Node:
    """Returns the tree without a name for several values and without an approximation after the value."""
    if isinstance(node, Quantity) and not is_scalar(node):
        return _plain(node.value)
    if isinstance(node, Call) and any(
        isinstance(part, Call) and part.name in SIGNS for part in subtrees(node)
    ):
        return Listing((_with_sign(node, "+", "-"), _with_sign(node, "-", "+")))
    if isinstance(node, Builder) and isinstance(node.element, Sym):
        listed = node.conditions[0]
        named = [
            assignment(item) for item in (listed.items if isinstance(listed, Listing) else node.conditions)
        ]
        if named and all(pair is not None and pair[0] == node.element for pair in named):
            return SetOf(tuple(pair[1] for pair in named if pair is not None))  # x = 2 or x = 5
    if isinstance(node, Seq) and (node.left == "" or all(assignment(item) for item in node.items)):
        node = Listing(node.items)
    if isinstance(node, Listing):
        return _plain_listing(node)
    if isinstance(node, Chain):
        if "approx" in node.ops:
            end = max(node.ops.index("approx"), 1)
            if end == 1 and is_name(node.sides[0]) and len(node.sides) == 2:
                return Chain(node.sides, ("=",))  # x is about 5: 5 is what is offered
            if node.ops[0] == "approx":
                return node.sides[0]
            return Chain(node.sides[: end + 1], node.ops[:end])
        if node.ops == ("in",) and not isinstance(node.sides[1], Sym):
            return _plain(node.sides[1])
    return node


def _plain_listing(listing: Listing) -> Node:
    """Expands ±; "n = 1, 2" becomes 1, 2; "p=5, q=2, p=7, q=2" becomes two tuples; "AB=4, CD=5" one."""
    items: list[Node] = []
    for item in listing.items:
        item = _plain(item)
        items.extend(item.items if isinstance(item, Listing) else (item,))
    named = [assignment(item) for item in items]
    if named[0] is not None and all(other is None for other in named[1:]):
        if len(items) > 1 and all(is_scalar(item) or isinstance(item, Seq) for item in items[1:]):
            return Listing((named[0][1], *items[1:]))
    elif all(pair is not None for pair in named):
        pairs = [pair for pair in named if pair is not None]
        names = [str(name) for name, _ in pairs]
        width = names.index(names[0], 1) if names[0] in names[1:] else len(names)
        if width == 1:
            return Listing(tuple(value for _, value in pairs))
        if len(names) % width == 0 and names == names[:width] * (len(names) // width):
            rows = [pairs[start : start + width] for start in range(0, len(pairs), width)]
            tuples = tuple(Seq(tuple(value for _, value in row), "(", ")") for row in rows)
            return tuples[0] if len(tuples) == 1 else Listing(tuples)
    return Listing(tuple(items))


def _same_by_name(reference: Node, answer: Node) -> Agreement | None:
    """Compares "p=5, q=2" in any order; None unless both sides name their values, each name once."""
    records = []
    for node in (reference, answer):
        if not isinstance(node, Listing | Seq | SetOf):
            return None
        pairs = [assignment(item) for item in node.items]
        record = {str(pair[0]): pair[1] for pair in pairs if pair is not None}
        if len(record) != len(pairs):
            return None
        records.append(record)
    if set(records[0]) != set(records[1]):
        is_in_words = all(name.startswith("Words") for record in records for name in record)
        return DIFFERENT if is_in_words else None
    return _all_same(list(records[0].values()), [records[1][name] for name in records[0]])


def _same_collection(reference: Node, answer: Node) -> Agreement:
    """Compares collections as regions of the line, by conditions, or item by item."""
    both_tuples = isinstance(reference, Seq) and isinstance(answer, Seq)
    if not both_tuples and (finding := same_regions(reference, answer)) is not None:
        return finding
    if isinstance(reference, Builder) or isinstance(answer, Builder):
        return _same_builders(reference, answer)
    return _same_items(reference, answer)


def _with_sign(node: Node, upper: str, lower: str) -> Node:
    """Returns the tree with the upper or the lower sign of each ± and ∓."""
    if isinstance(node, Call) and node.name in SIGNS:
        node = Call(upper if node.name == "pm" else lower, node.args)
    return rebuilt(node, lambda part: _with_sign(part, upper, lower))


def _same_items(reference: Node, answer: Node) -> Agreement:
    """Compares items: ordered if either side is a tuple. Brackets must agree if both have some."""
    first, second = _items(reference), _items(answer)
    if first is None:
        return _same_as_one(answer, reference)
    if second is None:
        return _same_as_one(reference, answer)
    tuples = [node for node in (reference, answer) if isinstance(node, Seq)]
    if len(first) != len(second):
        # A solution that is listed twice is listed.
        first, second = tuple(dict.fromkeys(first)), tuple(dict.fromkeys(second))
        if len(first) != len(second) or tuples:
            return DIFFERENT
    if len(first) > MAX_ITEMS:
        return UNKNOWN
    if not tuples:
        return _matched(first, second)
    brackets = {(node.left, node.right) for node in tuples}
    is_interval = len(tuples) == 1 and len(first) == 2 and brackets != {("(", ")")}  # no list of its ends
    if is_interval or len(brackets) > 1 or isinstance(reference, SetOf) or isinstance(answer, SetOf):
        return DIFFERENT
    return _all_same(first, second)


def _same_as_one(several: Node, one: Node) -> Agreement:
    """Compares several values with one: {5} is 5, and "15 39/40, or 639/40" is one value.

    A number never equals a tuple, and sets may need algebra.
    """
    match several:
        case Listing(items) if _all_same(items[:-1], items[1:]) is SAME:
            return same_answer(items[0], one)
        case SetOf((item,)) if one != EMPTY:
            return same_answer(item, one)
    is_structure = isinstance(several, Call) or isinstance(one, Call)
    return UNKNOWN if is_structure and not is_scalar(several) and not is_scalar(one) else DIFFERENT


def _items(node: Node) -> tuple[Node, ...] | None:
    match node:
        case Listing(items) | SetOf(items) | Seq(items, _, _):
            return items
        case Call("union", parts):
            split = [(part,) if isinstance(part, Seq) else _items(part) or (part,) for part in parts]
            return split[0] + split[1]
    return None


def _all_same(first: Sequence[Node], second: Sequence[Node]) -> Agreement:
    return Agreement.of_all(same_answer(left, right) for left, right in zip(first, second, strict=True))


def _matched(first: Sequence[Node], second: Sequence[Node]) -> Agreement:
    """Returns SAME if each item of one side can be paired with an equal item of the other, each used once."""
    left_over = list(second)
    is_unknown = False
    for item in first:
        for index, candidate in enumerate(left_over):
            finding = same_answer(item, candidate)
            if finding is SAME:
                del left_over[index]
                break
            is_unknown |= finding is UNKNOWN
        else:
            return UNKNOWN if is_unknown else DIFFERENT
    return SAME


def _same_matrix(reference: Node, answer: Node) -> Agreement:
    rows = [_rows(node) for node in (reference, answer)]
    if rows[0] is None or rows[1] is None or [*map(len, rows[0])] != [*map(len, rows[1])]:
        return DIFFERENT
    return _all_same([item for row in rows[0] for item in row], [item for row in rows[1] for item in row])


def _rows(node: Node) -> Sequence[Sequence[Node]] | None:
    """Returns the rows of a matrix, a list of lists, or a tuple read as a column vector."""
    match node:
        case Matrix(rows):
            return rows
        case Seq((Seq(_, "[", "]"), *_) as items, "[", "]"):
            return [getattr(item, "items", ()) for item in items]  # a number among the lists is no row
        case Seq(items, "(", ")"):
            return [[item] for item in items]
    return None


def _same_words(reference: Node, answer: Node) -> Agreement:
    assert isinstance(reference, Words)
    assert isinstance(answer, Words)
    first, second = (" ".join(w.text.split()).strip(" .") for w in (reference, answer))
    if first.lower() == second.lower():
        return SAME
    # A short answer in other words is another answer; a sentence may say the same in other words.
    return DIFFERENT if len(first.split()) <= 3 else Agreement.INCOMPARABLE


_T = AnswerType
SCALARS = (_T.NUMBER, _T.EXPRESSION, _T.QUANTITY)
COLLECTIONS = (_T.SET, _T.INTERVAL, _T.TUPLE, _T.LIST)
RELATIONS = (_T.RELATION, _T.FUNCTION_VALUE)
# Types of one side, types of the other, the rule for every pair of them. Other pairs have none: never equal.
RULES: tuple[tuple[tuple[AnswerType, ...], tuple[AnswerType, ...], Comparison], ...] = (
    (SCALARS, SCALARS, same_scalar),
    (COLLECTIONS, (*COLLECTIONS, *SCALARS), _same_collection),
    (RELATIONS, (*RELATIONS, *SCALARS, *COLLECTIONS, _T.MATRIX), partial(same_relation, same=same_answer)),
    ((_T.MATRIX,), (_T.MATRIX, _T.TUPLE, _T.INTERVAL), _same_matrix),
    ((_T.TEXT,), (_T.TEXT,), _same_words),
    ((_T.BOOLEAN,), (_T.BOOLEAN,), _same_said),
    ((_T.TIME,), (_T.TIME, _T.NUMBER), _same_said),
    ((_T.OPTIONS,), (_T.OPTIONS, _T.NUMBER, _T.SET, _T.LIST), _same_said),
)
COMPARISONS = {
    frozenset((one, other)): rule for first, second, rule in RULES for one in first for other in second
}
