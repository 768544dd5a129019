"""Whether two single values are the same answer: exact, numeric, rounded, in percent, degrees or units.

The conventions of the field, each with its limit:
- a percent sign may be left out or written as /100 (28% is 28 and 0.28), a degree sign may be left out;
- a unit that only one side writes is dropped; two known units are converted or refuse each other;
- a decimal equals an exact value that it rounds, from MIN_ROUNDED_DIGITS significant digits on.
"""

from fractions import Fraction

from drsft.verify.maths.evaluate import NotANumberError, exact, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, same_function
from drsft.verify.maths.primaries import OPAQUE
from drsft.verify.maths.syntax import Call, Node, Num, Quantity, Sym
from drsft.verify.maths.units import factor_between

__all__ = ["either", "is_scalar", "same_scalar"]

MIN_ROUNDED_DIGITS = 5  # 2.6667 is 8/3; 0.33 is not 1/3
UNIT_LETTERS = frozenset("msgNJWVAKLhCZ")
STRUCTURES = frozenset({"union", "intersect", "minus"})


def is_scalar(node: Node) -> bool:
    if isinstance(node, Quantity):
        return is_scalar(node.value)
    return isinstance(node, Num | Sym) or (isinstance(node, Call) and node.name not in STRUCTURES)


def either(*agreements: Agreement) -> Agreement:
    """SAME if any reading is; DIFFERENT only if all are."""
    if Agreement.SAME in agreements:
        return Agreement.SAME
    return Agreement.UNKNOWN if Agreement.UNKNOWN in agreements else Agreement.DIFFERENT


def same_scalar(reference: Node, answer: Node) -> Agreement:
    if isinstance(reference, Quantity) or isinstance(answer, Quantity):
        return _same_quantity(reference, answer)
    match reference, answer:
        case Call("%", (left,)), Call("%", (right,)):
            return same_scalar(left, right)
        case (Call("%", (left,)), right) | (right, Call("%", (left,))):
            return either(_same_value(left, right), _same_value(Call("/", (left, Num(Fraction(100)))), right))
        case Call("deg", (left,)), Call("deg", (right,)):
            return same_scalar(left, right)
        case (Call("deg", (left,)), right) | (right, Call("deg", (left,))):
            return either(_same_value(left, right), _same_value(Call("deg", (left,)), right))
        case Call("base", (left, base)), Call("base", (right, other_base)):
            return _verdict(_in_base(left, base) == _in_base(right, other_base))
        case (Call("base", (left, _)), right) | (right, Call("base", (left, _))):
            return _verdict(left == right)  # the base is in the question; its digits must be the same
        case Call("ratio", parts), Call("ratio", other_parts):
            return _same_ratio(parts, other_parts)
        case (Call("ratio", (left, right)), other) | (other, Call("ratio", (left, right))):
            return _same_value(Call("/", (left, right)), other)
    return _same_value(reference, answer)


def _verdict(is_same: bool) -> Agreement:
    return Agreement.SAME if is_same else Agreement.DIFFERENT


def _same_value(reference: Node, answer: Node) -> Agreement:
    if reference == answer:
        return Agreement.SAME
    first, second = exact(reference), exact(answer)
    if first is not None and second is not None:
        agreement = _verdict(first == second)
    else:
        reference, answer = _without_unit_letter(reference, answer)
        agreement = same_function(reference, answer)
    if agreement is Agreement.DIFFERENT and (_is_opaque(reference) or _is_opaque(answer)):
        return Agreement.UNKNOWN  # the same series may be indexed otherwise
    if agreement is Agreement.DIFFERENT and (_rounds(reference, answer) or _rounds(answer, reference)):
        return Agreement.SAME
    return agreement


def _is_opaque(node: Node) -> bool:
    return isinstance(node, Call) and (
        node.name.startswith(OPAQUE) or any(_is_opaque(argument) for argument in node.args)
    )


def _rounds(decimal: Node, value: Node) -> bool:
    """Whether `decimal` is a decimal fraction with enough digits to stand for the exact `value`."""
    sign = 1
    if isinstance(decimal, Call) and decimal.name == "neg":
        sign, decimal = -1, decimal.args[0]
    if not isinstance(decimal, Num) or decimal.places is None or decimal.digits < MIN_ROUNDED_DIGITS:
        return False
    if _is_decimal(value) or free_symbols(value):
        return False  # two decimals are compared as written
    try:
        difference = abs(value_at(value, {}) - value_at(decimal, {}) * sign)
    except NotANumberError:
        return False
    # "2.75e11" has its last place elsewhere; only plain decimals have a known rounding.
    return bool(difference <= 0.50001 * 10.0**-decimal.places)


def _is_decimal(node: Node) -> bool:
    if isinstance(node, Call) and node.name == "neg":
        return _is_decimal(node.args[0])
    return isinstance(node, Num) and node.places is not None


def _without_unit_letter(reference: Node, answer: Node) -> tuple[Node, Node]:
    """0.64N beside 0.64: a trailing unit letter on one side only is no variable."""
    first, second = free_symbols(reference), free_symbols(answer)
    if first and not second:
        return _stripped(reference), answer
    if second and not first:
        return reference, _stripped(answer)
    return reference, answer


def _stripped(node: Node) -> Node:
    match node:
        case Call("*" | "/", (value, unit)) if _is_unit(unit) and not isinstance(value, Sym):
            return _stripped(value)
    return node


def _is_unit(node: Node) -> bool:
    match node:
        case Sym(name):
            return name in UNIT_LETTERS
        case Call("^", (Sym(name), Num())):
            return name in UNIT_LETTERS
    return False


def _same_quantity(reference: Node, answer: Node) -> Agreement:
    reference, answer = _with_letter_unit(reference), _with_letter_unit(answer)
    if isinstance(reference, Quantity) and isinstance(answer, Quantity):
        factor = factor_between(answer.unit, reference.unit)
        if factor is None:
            return Agreement.DIFFERENT
        scaled = answer.value if factor == 1 else Call("*", (Num(factor), answer.value))
        return same_scalar(reference.value, scaled)
    left = reference.value if isinstance(reference, Quantity) else reference
    right = answer.value if isinstance(answer, Quantity) else answer
    return same_scalar(left, right)


def _with_letter_unit(node: Node) -> Node:
    """3 m beside 300 cm: the letter is the unit."""
    match node:
        case Call("*", (value, Sym(name))) if name in UNIT_LETTERS and not free_symbols(value):
            return Quantity(value, name)
    return node


def _in_base(digits: Node, base: Node) -> object:
    if not (isinstance(digits, Num) and isinstance(base, Num)):
        return digits, base
    try:
        return int(str(digits.value), int(base.value))
    except ValueError:
        return digits, base


def _same_ratio(parts: tuple[Node, ...], other: tuple[Node, ...]) -> Agreement:
    if len(parts) != len(other):
        return Agreement.DIFFERENT
    for left, right in zip(parts, other, strict=True):
        # a : b :: c : d if a d = b c, against each side's first non-zero part; 12:00 and 1:00 are clocks.
        cross = _same_value(Call("*", (parts[0], right)), Call("*", (other[0], left)))
        if cross is not Agreement.SAME:
            return cross
    if all(exact(part) == 0 for part in (*parts[1:], *other[1:])):
        return _same_value(parts[0], other[0])
    return Agreement.SAME
