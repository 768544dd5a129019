"""Compares two single values: exact, numeric, rounded, in percent, degrees or units.

The conventions of the field, each with its limit:
- a percent sign may be left out or written as /100 (28% is 28 and 0.28), a degree sign may be left out;
- a unit that only one side writes is dropped; two units are converted or differ, and a
  unit, a percent sign and a degree sign differ from each other;
- one of two labels must say all that the other says: "marbles" fits "red marbles", "blue marbles" does not;
- infinity is a value of its own: it equals itself with the same sign, and nothing else;
- a decimal equals an exact value that it rounds, from MIN_ROUNDED_DIGITS significant digits on.
"""

from fractions import Fraction

from drsft.verify.maths.evaluate import NotANumberError, exact, free_symbols, value_at
from drsft.verify.maths.identity import Agreement, same_function
from drsft.verify.maths.parser import OPAQUE, UNIT_LETTERS
from drsft.verify.maths.syntax import Call, Node, Num, Quantity, Sym, subtrees, symbols_of
from drsft.verify.maths.units import Unit, factor_between, is_label, is_unit
from drsft.verify.words import label_of

__all__ = ["decimal_of", "either", "is_rounded", "is_scalar", "same_scalar", "split_unit"]

MIN_ROUNDED_DIGITS = 5  # 2.6667 is 8/3; 0.33 is not 1/3
FLOAT_DIGITS = 10  # from here on a decimal is a computer's, and stands for what it rounds
NOISE_DIGITS = 15  # of a double: 0.30000000000000004
FILLERS = frozenset(
    {"left", "remaining", "total", "more", "altogether", "in", "all", "of", "the", "a", "per", "each"}
)
STRUCTURES = frozenset({"union", "intersect", "minus"})
SAME, DIFFERENT, UNKNOWN = Agreement.SAME, Agreement.DIFFERENT, Agreement.UNKNOWN


def is_scalar(node: Node) -> bool:
    if isinstance(node, Quantity):
        return is_scalar(node.value)
    return isinstance(node, Num | Sym) or (isinstance(node, Call) and node.name not in STRUCTURES)


def either(*agreements: Agreement) -> Agreement:
    """Combines comparisons of what an answer may mean: SAME if any is, else UNKNOWN if any, or DIFFERENT."""
    if SAME in agreements:
        return SAME
    return UNKNOWN if UNKNOWN in agreements else DIFFERENT


def same_scalar(reference: Node, answer: Node) -> Agreement:
    reference, answer = _signed_within(reference), _signed_within(answer)
    if isinstance(reference, Quantity) or isinstance(answer, Quantity):
        return _same_quantity(reference, answer)
    match reference, answer:
        case Call("%" | "deg" as sign, (left,)), Call("%" | "deg" as other, (right,)):
            return same_scalar(left, right) if sign == other else DIFFERENT
        case (Call("%" | "deg", (left,)) as signed, right) | (right, Call("%" | "deg", (left,)) as signed):
            value = signed if signed.name == "deg" else Call("/", (left, Num(Fraction(100))))
            # The sign is left out of 28 %, not of 0.28 %.
            is_share = signed.name == "%" and (number := decimal_of(right)) and 0 < abs(number.value) < 1
            finding = _same_value(value, right)
            return finding if is_share else either(_same_value(left, right), finding)
        case Call("base", (left, base)), Call("base", (right, other_base)):
            return Agreement.of(left == right and base == other_base)
        case (Call("base", (left, _)), right) | (right, Call("base", (left, _))):
            return Agreement.of(left == right)  # the base is in the question; its digits must be the same
        case Call("ratio", parts), Call("ratio", other_parts):
            return _same_ratio(parts, other_parts)
        case (Call("ratio", (left, right)), other) | (other, Call("ratio", (left, right))):
            return _same_value(Call("/", (left, right)), other)
    return _same_value(reference, answer)


def _signed_within(node: Node) -> Node:
    """Returns -(10 degrees) as (-10) degrees, and likewise percent; other trees unchanged."""
    match node:
        case Call("neg", (Call("deg" | "%" as sign, (value,)),)):
            return Call(sign, (Call("neg", (value,)),))
    return node


def _same_value(reference: Node, answer: Node) -> Agreement:
    if reference == answer:
        return SAME
    if "inf" in symbols_of(reference) | symbols_of(answer):
        infinities = _infinity(reference), _infinity(answer)
        return Agreement.of(infinities[0] is not None and infinities[0] == infinities[1])
    first, second = exact(reference), exact(answer)
    if first is not None and second is not None:
        agreement = Agreement.of(first == second)
    else:
        reference, answer = _without_unit_letter(reference, answer)
        agreement = same_function(reference, answer)
    if agreement is DIFFERENT and (_is_opaque(reference) or _is_opaque(answer)):
        return UNKNOWN  # the same series may be indexed otherwise
    if agreement is DIFFERENT and (_rounds(reference, answer) or _rounds(answer, reference)):
        return SAME
    return agreement


def _infinity(node: Node) -> int | None:
    """Returns 1 or -1 for infinities; None for finite or undefined values."""
    match node:
        case Sym("inf"):
            return 1
        case Call("neg", (operand,)):
            sign = _infinity(operand)
            return None if sign is None else -sign
    return None


def _is_opaque(node: Node) -> bool:
    return any(isinstance(part, Call) and part.name.startswith(OPAQUE) for part in subtrees(node))


def _rounds(decimal: Node, value: Node) -> bool:
    """Returns whether `decimal` is a decimal fraction with enough digits to stand for `value`."""
    written = decimal_of(decimal)
    if written is None or written.places is None or free_symbols(value):
        return False
    other = decimal_of(value)
    if other is not None and other.places is None and other.value.denominator == 1:
        other = Num(other.value, None, NOISE_DIGITS)  # a whole number has no end of digits
    if other is not None:
        is_noisy = max(written.digits, other.digits) >= NOISE_DIGITS and written.value != 0
        if is_noisy and abs(written.value - other.value) <= abs(written.value) * Fraction(1, 10**14):
            return True
        if other.digits < FLOAT_DIGITS or other.places is None or written.digits > other.digits:
            return False  # two decimals are compared as written
    if written.digits < MIN_ROUNDED_DIGITS:
        return False
    return is_rounded(value, written)


def is_rounded(value: Node, written: Num) -> bool:
    """Returns whether `written` is `value` rounded to its decimal places, or to the precision of a double."""
    if written.places is None:
        return False
    try:
        exact_value = value_at(value, {})
    except NotANumberError:
        return False
    difference = abs(exact_value - value_at(written, {}))
    is_double = written.digits >= NOISE_DIGITS and difference <= abs(exact_value) * 1e-14
    return is_double or bool(difference <= 0.50001 * 10.0**-written.places)


def decimal_of(node: Node) -> Num | None:
    """Returns the decimal that a tree writes, such as -0.0025 of -2.5 \\times 10^{-3}; None if it is none."""
    match node:
        case Num():
            return node if node.places is not None or node.value.denominator == 1 else None
        case Call("neg", (operand,)):
            number = decimal_of(operand)
            return None if number is None else Num(-number.value, number.places, number.digits)
        case Call("*", (Num() as mantissa, Call("^", (Num(value=Fraction(numerator=10)), power)))):
            shift = exact(power)
            if shift is None or shift.denominator != 1 or abs(shift) > 400:
                return None
            digits = mantissa.digits or len(str(mantissa.value.numerator))
            return Num(
                mantissa.value * Fraction(10) ** shift.numerator,
                (mantissa.places or 0) - shift.numerator,
                digits,
            )
    return None


def _without_unit_letter(reference: Node, answer: Node) -> tuple[Node, Node]:
    """Returns both sides without a trailing unit letter that only one has: 0.64N beside 0.64."""
    first, second = free_symbols(reference), free_symbols(answer)
    if first and not second:
        return split_unit(reference)[0], answer
    if second and not first:
        return reference, split_unit(answer)[0]
    return reference, answer


def split_unit(node: Node) -> tuple[Node, Unit]:
    """Returns value and unit of a tree such as "9.81 m/s^2", which is parsed as a product with symbols."""
    match node:
        case Call("*" | "/" as operator, (value, unit)) if not isinstance(value, Sym):
            match unit if isinstance(unit, Call) else Call("^", (unit, Num(Fraction(1)))):
                case Call("^", (Sym(name), exponent)) if name in UNIT_LETTERS and (power := exact(exponent)):
                    if power.denominator == 1:
                        inner, rest = split_unit(value)
                        return inner, (*rest, (name, int(power) if operator == "*" else -int(power)))
    return node, ()


def _as_quantity(node: Node) -> Node:
    """Returns the tree with a trailing letter read as a unit, as in 3 m beside 300 cm."""
    if isinstance(node, Quantity):
        return node
    value, unit = split_unit(node)
    return Quantity(value, unit) if unit and not free_symbols(value) else node


def _same_quantity(reference: Node, answer: Node) -> Agreement:
    reference, answer = _as_quantity(reference), _as_quantity(answer)
    if isinstance(reference, Quantity) and isinstance(answer, Quantity):
        return _same_quantities(reference, answer)
    quantity, other = (reference, answer) if isinstance(reference, Quantity) else (answer, reference)
    assert isinstance(quantity, Quantity)
    is_sign = isinstance(other, Call) and other.name in ("%", "deg")
    if is_sign and not (isinstance(quantity.value, Call) and quantity.value.name in ("%", "deg")):
        is_angle = all(name.startswith("rad") for name, _ in quantity.unit)
        return _same_value(quantity.value, other) if is_angle else DIFFERENT
    return same_scalar(quantity.value, other)


def _same_quantities(reference: Quantity, answer: Quantity) -> Agreement:
    units = _known(reference.unit), _known(answer.unit)
    words = [_telling_words(unit) for unit in units]
    is_same_word = bool(words[0] & words[1]) and (words[0] <= words[1] or words[1] <= words[0])
    if (is_label(units[0]) and is_label(units[1])) or (is_same_word and any(map(is_label, units))):
        finding = same_scalar(reference.value, answer.value)
        # Counts of other things: the same number says nothing.
        return finding if is_same_word or finding is DIFFERENT else Agreement.INCOMPARABLE
    factor = factor_between(units[1], units[0])
    if factor is None:
        return DIFFERENT
    scaled = answer.value if factor == 1 else Call("*", (Num(factor), answer.value))
    if factor != 1 and (number := decimal_of(answer.value)) is not None:
        scaled = Num(number.value * factor)
        return either(same_scalar(reference.value, scaled), Agreement.of(_rounds(reference.value, scaled)))
    return same_scalar(reference.value, scaled)


def _telling_words(unit: Unit) -> set[str]:
    """Returns the words that distinguish a label: "marbles" for "marbles left", "red" for "red marbles"."""
    return {label_of(word) for name, _ in unit for word in name.split()} - FILLERS


def _known(unit: Unit) -> Unit:
    """Returns the unit without labels beside real units: "miles per trip" is compared as miles."""
    known = tuple((name, power) for name, power in unit if is_unit(name))
    return known or unit


def _same_ratio(parts: tuple[Node, ...], other: tuple[Node, ...]) -> Agreement:
    if len(parts) != len(other):
        return DIFFERENT
    for left, right in zip(parts, other, strict=True):
        # a : b :: c : d if a d = b c, against each side's first non-zero part; 12:00 and 1:00 are clocks.
        cross = _same_value(Call("*", (parts[0], right)), Call("*", (other[0], left)))
        if cross is not SAME:
            return cross
    if all(exact(part) == 0 for part in (*parts[1:], *other[1:])):
        return _same_value(parts[0], other[0])
    return SAME
