"""Whether two trees are the same answer: what kind of thing each is, then the rule for that pair of kinds."""

from collections.abc import Sequence

from drsft.verify.maths.evaluate import NotANumberError, free_symbols, value_at
from drsft.verify.maths.identity import Agreement
from drsft.verify.maths.indexed_sets import family_of, same_family
from drsft.verify.maths.regions import region_of, same_region
from drsft.verify.maths.relations import assignment, is_name, same_relation
from drsft.verify.maths.syntax import (
    Builder,
    Call,
    Chain,
    Clock,
    Day,
    Listing,
    Matrix,
    Node,
    Num,
    Options,
    Quantity,
    Seq,
    SetOf,
    Sym,
    Truth,
    Words,
    renamed_in,
)
from drsft.verify.maths.units import CURRENCIES, factor_between, is_label, label_of
from drsft.verify.maths.values import decimal_of, is_scalar, same_scalar

__all__ = ["same_answer"]

SAME, DIFFERENT, UNKNOWN = Agreement.SAME, Agreement.DIFFERENT, Agreement.UNKNOWN
MAX_ITEMS = 200
EMPTY = Sym("emptyset")
STATES = (Truth, Clock, Day, Options)


def same_answer(reference: Node, answer: Node) -> Agreement:
    """SAME and DIFFERENT are findings; UNKNOWN hands the pair to the symbolic step."""
    if reference == answer:
        return SAME  # before any unit is converted or any function evaluated
    if isinstance(reference, STATES) or isinstance(answer, STATES):
        return _same_state(reference, answer)
    if (finding := _same_by_name(reference, answer)) is not None:
        return finding
    if isinstance(reference, Listing) or isinstance(answer, Listing):
        if (finding := _same_compound(reference, answer)) is not None:
            return finding
        families = family_of(reference), family_of(answer)
        if families[0] is not None and families[1] is not None:
            return same_family(families[0], families[1])
    if (rounded := _approximation(answer)) is not None and same_answer(reference, rounded) is SAME:
        return SAME
    reference, answer = _plain(reference), _plain(answer)
    if reference == answer:
        return SAME
    if isinstance(reference, Words) or isinstance(answer, Words):
        return DIFFERENT if type(reference) is not type(answer) else _same_words(reference, answer)
    if isinstance(reference, Chain) or isinstance(answer, Chain):
        return same_relation(reference, answer, same_answer)
    if isinstance(reference, Matrix) or isinstance(answer, Matrix):
        return _same_matrix(reference, answer)
    if is_scalar(reference) and is_scalar(answer):
        return same_scalar(reference, answer)
    families = family_of(reference), family_of(answer)
    if families[0] is not None and families[1] is not None:
        return same_family(families[0], families[1])
    regions = region_of(reference), region_of(answer)
    if regions[0] is not None and regions[1] is not None and not _both_tuples(reference, answer):
        return SAME if same_region(regions[0], regions[1]) else DIFFERENT
    if isinstance(reference, Builder) or isinstance(answer, Builder):
        return _same_builders(reference, answer)
    return _same_items(reference, answer)


def _approximation(node: Node) -> Node | None:
    r"""The decimal after the last \approx, if it rounds what stands before: t = \sqrt{7} \approx 2.65."""
    if not isinstance(node, Chain) or node.ops[-1] != "approx":
        return None
    value, decimal = node.sides[-2:]
    written = decimal_of(decimal)
    if written is None or written.places is None:
        return None
    try:
        error = abs(value_at(value, {}) - value_at(written, {}))
    except NotANumberError:
        return None
    return decimal if error <= 0.50001 * 10.0**-written.places else None


def _same_state(reference: Node, answer: Node) -> Agreement:
    """Booleans, days, times of day and numbers of statements: each with its own kind."""
    if type(reference) is type(answer):
        return SAME if reference == answer else DIFFERENT
    state, other = (reference, answer) if isinstance(reference, STATES) else (answer, reference)
    if isinstance(state, Clock):
        return SAME if _on_clock(other) == state.seconds % (12 * 3600) else DIFFERENT
    if isinstance(state, Options):
        items = (other,) if isinstance(other, Seq) else _items(other) or (other,)
        if any(not isinstance(item, Num) for item in items):
            return DIFFERENT
        labels = frozenset(str(item.value) for item in items if isinstance(item, Num))
        return SAME if labels == state.labels and len(labels) == len(items) else DIFFERENT
    return DIFFERENT


def _on_clock(node: Node) -> int | None:
    """The seconds since twelve of "4:35", and of a whole hour; None for anything else."""
    match node:
        case Call("ratio", (Num(hour), Num(minutes))) if hour.denominator == minutes.denominator == 1:
            return int(hour % 12 * 3600 + minutes * 60)
        case Num(hour, None) if hour.denominator == 1:
            return int(hour % 12 * 3600)
    return None


def _same_compound(reference: Node, answer: Node) -> Agreement | None:
    """2 hours 45 minutes as one quantity; "5 red, 9 blue" label by label; None for other lists."""
    first, second = _quantities(reference), _quantities(answer)
    if first is None or second is None:
        for parts, other in ((first, answer), (second, reference)):
            if (
                parts is not None
                and isinstance(other, Listing)
                and all(is_label(part.unit) for part in parts)
            ):
                values = [part.value for part in parts]
                return _all_same(values, other.items) if len(values) == len(other.items) else DIFFERENT
            if parts is None or len(parts) < 2 or not isinstance(other, Num):
                continue
            total = total_of(
                parts
            )  # 4 dollars 35 cents is 4.35; a bare number of hours and minutes is neither
            if total is not None and all(name in CURRENCIES for part in parts for name, _ in part.unit):
                return same_scalar(total.value, other)
        return None
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
    """ "cows: 7" as 7 cows."""
    match node:
        case Chain((Words(label), Num() as value), ("=",)):
            return Quantity(value, ((label_of(label), 1),))
    return node


def _matched_labels(first: tuple[Quantity, ...], second: tuple[Quantity, ...]) -> Agreement:
    """Each label once on both sides, and under each label the same value."""
    records = [{quantity.unit: quantity.value for quantity in side} for side in (first, second)]
    if records[0].keys() != records[1].keys() or len(records[0]) != len(first):
        return DIFFERENT
    return _all_same(list(records[0].values()), [records[1][unit] for unit in records[0]])


def total_of(quantities: tuple[Quantity, ...]) -> Quantity | None:
    """The sum of quantities in different units of one dimension, in the first one's unit."""
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
    """The same element under the same conditions, whatever the bound letters are called."""
    if not (isinstance(reference, Builder) and isinstance(answer, Builder)):
        other = answer if isinstance(reference, Builder) else reference
        return UNKNOWN if isinstance(other, Call) and not is_scalar(other) else DIFFERENT
    first, second = sorted(free_symbols(reference)), sorted(free_symbols(answer))
    if len(reference.conditions) != len(answer.conditions) or len(first) != len(second):
        return UNKNOWN
    renamed: Node = answer
    if isinstance(reference.element, Sym) and isinstance(answer.element, Sym):
        renamed = renamed_in(answer, answer.element.name, reference.element.name)
    assert isinstance(renamed, Builder)
    left, right = (Listing((node.element, *node.conditions)) for node in (reference, renamed))
    return SAME if left == right or _all_same(left.items, right.items) is SAME else UNKNOWN


def _plain(node: Node) -> Node:
    """Without what only dresses an answer: a name for several values, an approximation after the value."""
    if isinstance(node, Quantity) and not is_scalar(node):
        return _plain(node.value)
    if isinstance(node, Call) and (signs := _signs(node)) is not None:
        return Listing(signs)
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
    """Expand ±; "n = 1, 2" is 1, 2; "p=5, q=2, p=7, q=2" is two tuples; "AB=4, CD=5" one."""
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
    """ "p=5, q=2" is "q=2, p=5": where both sides name their values, each name once, the order is free."""
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


def _signs(node: Call) -> tuple[Node, Node] | None:
    """The two values of an expression with ±."""
    if not _has_sign(node):
        return None
    return _with_sign(node, "+"), _with_sign(node, "-")


def _has_sign(node: Node) -> bool:
    return isinstance(node, Call) and (
        node.name in ("pm", "mp") or any(_has_sign(item) for item in node.args)
    )


def _with_sign(node: Node, sign: str) -> Node:
    if not isinstance(node, Call):
        return node
    name = node.name
    if name in ("pm", "mp"):
        name = sign if name == "pm" else {"+": "-", "-": "+"}[sign]
    return Call(name, tuple(_with_sign(item, sign) for item in node.args))


def _same_items(reference: Node, answer: Node) -> Agreement:
    """Ordered if either side is a tuple, unordered otherwise; brackets must agree where both have some."""
    first, second = _items(reference), _items(answer)
    if first is None or second is None:
        listing, single = (reference, answer) if second is None else (answer, reference)
        if isinstance(listing, Listing) and _all_same(listing.items[:-1], listing.items[1:]) is SAME:
            return same_answer(listing.items[0], single)  # "15 39/40, or 639/40": one value in two forms
        # {5} and 5 are the same answer; (1,2) and a number are not.
        for several, one in ((reference, answer), (answer, reference)):
            if isinstance(several, SetOf) and len(several.items) == 1 and one != EMPTY:
                return same_answer(several.items[0], one)
        is_decided = is_scalar(reference) or is_scalar(answer)  # a number is no tuple; sets may need algebra
        return DIFFERENT if is_decided or not _is_call(reference, answer) else UNKNOWN
    if len(first) != len(second):
        # A solution that is listed twice is listed.
        first, second = tuple(dict.fromkeys(first)), tuple(dict.fromkeys(second))
        if len(first) != len(second) or isinstance(reference, Seq) or isinstance(answer, Seq):
            return DIFFERENT
    if len(first) > MAX_ITEMS:
        return UNKNOWN
    if isinstance(reference, Seq) or isinstance(answer, Seq):
        if isinstance(reference, SetOf) or isinstance(answer, SetOf):
            return DIFFERENT
        tuples = [node for node in (reference, answer) if isinstance(node, Seq)]
        if len(tuples) == 1 and (tuples[0].left, tuples[0].right) != ("(", ")") and len(tuples[0].items) == 2:
            return DIFFERENT  # an interval is no list of its ends
        if (
            isinstance(reference, Seq)
            and isinstance(answer, Seq)
            and (reference.left, reference.right) != (answer.left, answer.right)
        ):
            return DIFFERENT
        return _all_same(first, second)
    return _matched(first, second)


def _is_call(*nodes: Node) -> bool:
    return any(isinstance(node, Call) for node in nodes)


def _items(node: Node) -> tuple[Node, ...] | None:
    match node:
        case Listing(items) | SetOf(items) | Seq(items, _, _):
            return items
        case Call("union", (left, right)):
            parts = [
                _items(part) or (part,) if not isinstance(part, Seq) else (part,) for part in (left, right)
            ]
            return parts[0] + parts[1]
    return None


def _all_same(first: Sequence[Node], second: Sequence[Node]) -> Agreement:
    findings = [same_answer(left, right) for left, right in zip(first, second, strict=True)]
    if DIFFERENT in findings:
        return DIFFERENT
    return UNKNOWN if UNKNOWN in findings else SAME


def _matched(first: Sequence[Node], second: Sequence[Node]) -> Agreement:
    """Every item of one side has its own partner on the other."""
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


def _both_tuples(reference: Node, answer: Node) -> bool:
    return isinstance(reference, Seq) and isinstance(answer, Seq)


def _same_matrix(reference: Node, answer: Node) -> Agreement:
    rows = [_rows(node) for node in (reference, answer)]
    if rows[0] is None or rows[1] is None:
        return DIFFERENT
    if len(rows[0]) != len(rows[1]) or len(rows[0][0]) != len(rows[1][0]):
        return DIFFERENT
    return _all_same([item for row in rows[0] for item in row], [item for row in rows[1] for item in row])


def _rows(node: Node) -> Sequence[Sequence[Node]] | None:
    """A column vector may be written as a tuple."""
    match node:
        case Matrix(rows):
            return rows
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
    return DIFFERENT if len(first.split()) <= 3 else UNKNOWN
