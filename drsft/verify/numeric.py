"""Judges a number within a tolerance: "9.81 m/s^2", "3.2 ± 0.1", "2.998e8"."""

import re
from fractions import Fraction

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.extraction.order import find_answer
from drsft.verify.maths.answer import readings_of
from drsft.verify.maths.compare import total_of
from drsft.verify.maths.evaluate import NotANumberError, TooLargeError, free_symbols, value_at
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.parser import parse
from drsft.verify.maths.same import same_math
from drsft.verify.maths.syntax import Chain, Listing, Matrix, Quantity, Said, Seq, SetOf
from drsft.verify.maths.tokens import UnreadableError
from drsft.verify.maths.units import Unit, factor_between, is_unit
from drsft.verify.maths.values import decimal_of, split_unit
from drsft.verify.options import VerifyOptions
from drsft.verify.words import label_of

__all__ = ["is_numeric", "judge_numeric", "parse_numeric"]

_TOLERANCE = re.compile(r"(.+?)\s*(?:±|\\pm|\+/-|\+-)\s*([\d.eE+-]+)\s*(.*)", re.DOTALL)


def judge_numeric(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT if the answer's value is within a tolerance: the reference's own ("3.2 ± 0.1"), else
    the relative and absolute ones of the options.
    """
    expected = parse_numeric(case.reference)
    if expected is None and is_numeric(case.reference):
        return _judge_structure(case, options)
    if expected is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="reference is not a number")
    value, unit, tolerance = expected
    found = find_answer(case.text, is_box_required=options.require_box)
    if found is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no answer found")
    measured = _measure(found.text)
    if measured is None:
        return Verdict(outcome=Outcome.WRONG, reason="answer is not a number", answer=found.text)
    answer, answer_unit, _ = measured
    factor = _factor(answer_unit, unit)
    if factor is None:
        return Verdict(outcome=Outcome.WRONG, reason="another unit", answer=found.text)
    if tolerance is None:
        tolerance = options.relative_tolerance * abs(value)
        # An absolute tolerance above the value itself would accept anything small: only zero needs one.
        if value == 0 or options.absolute_tolerance <= abs(value):
            tolerance = max(tolerance, options.absolute_tolerance)
    # One part in 10^12 for the representation of the numbers themselves: 3.3 is within 3.2 ± 0.1.
    is_percent = ["%" in text for text in (case.reference, found.text)]
    scales = (1.0, 0.01) if is_percent == [True, False] else (1.0,)  # 75 for 75 %
    is_within = any(
        abs(answer * scale * float(factor) - value) <= tolerance * (1 + 1e-12) + 1e-12 * abs(value)
        for scale in scales
    )
    outcome = Outcome.CORRECT if is_within else Outcome.WRONG
    return Verdict(
        outcome=outcome, reason="within" if is_within else "outside the tolerance", answer=found.text
    )


def _factor(answer: Unit, reference: Unit) -> Fraction | None:
    """Returns how many of the reference's units are one of the answer's; None if their units do not match.

    A side without a unit matches any. Words that are not units ("marbles", "MiB") match words that share one
    with them, and units beside them are converted.
    """
    if not (answer and reference):
        return Fraction(1)
    (answer_words, answer_known), (words, known) = _words_and_known(answer), _words_and_known(reference)
    if (words or answer_words) and not words & answer_words:
        return None
    return factor_between(answer_known, known)


def _words_and_known(unit: Unit) -> tuple[set[tuple[str, bool]], Unit]:
    """Returns the words of a unit that are not known units, and its known units.

    Each word comes with whether it is in the denominator.
    """
    words = {
        (word, power < 0) for name, power in unit if not is_unit(name) for word in label_of(name).split()
    }
    return words, tuple((name, power) for name, power in unit if is_unit(name))


def is_numeric(reference: str) -> bool:
    """Returns whether kind `numeric` can judge a reference: a number, numbers, a matrix or a boolean."""
    if parse_numeric(reference) is not None:
        return True
    readings = readings_of(clean(reference))
    return readings in ((Said(True),), (Said(False),)) or (
        bool(readings) and isinstance(readings[0], Seq | Listing | SetOf | Matrix)
    )


def _judge_structure(case: Case, options: VerifyOptions) -> Verdict:
    """Returns the verdict on a structure: lists of numbers are judged item by item, others as mathematics."""
    found = find_answer(case.text, is_box_required=options.require_box)
    if found is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no answer found")
    first, second = (_values(text) for text in (case.reference, found.text))
    if first is None or second is None:
        outcome, reason = same_math(case.reference, found.text)
        return Verdict(outcome=outcome, reason=reason, answer=found.text)
    is_within = len(first) == len(second) and all(
        abs(left - right) <= max(options.absolute_tolerance, options.relative_tolerance * abs(left))
        for left, right in zip(first, second, strict=True)
    )
    outcome = Outcome.CORRECT if is_within else Outcome.WRONG
    reason = "within" if is_within else "outside the tolerance"
    return Verdict(outcome=outcome, reason=reason, answer=found.text)


def _values(text: str) -> list[float] | None:
    """Returns the numbers of a list with or without brackets; None for anything else."""
    readings = readings_of(clean(text))
    items = readings[0].items if readings and isinstance(readings[0], Seq | Listing) else ()
    try:
        return [float(value_at(item, {}, is_real=True)) for item in items] or None
    except (NotANumberError, TooLargeError, OverflowError, TypeError):
        return None


def parse_numeric(reference: str) -> tuple[float, Unit, float | None] | None:
    """Returns a reference's value, unit (or ()) and own tolerance (or None); None if it is not a number."""
    tolerance: float | None = None
    match = _TOLERANCE.fullmatch(reference.strip())
    if match is not None:
        try:
            tolerance = float(match[2])
        except ValueError:
            return None
        reference = f"{match[1]} {match[3]}"
    measured = _measure(reference)
    return None if measured is None else (*measured[:2], tolerance)


def _measure(text: str) -> tuple[float, Unit, int] | None:
    """Returns value, unit and significant digits (0 if exact), from the right-hand side of "v = 3 m"."""
    try:
        node = parse(clean(text))
        if isinstance(node, Chain):
            node = node.sides[-1]
        if isinstance(node, Listing) and all(isinstance(item, Quantity) for item in node.items):
            node = total_of(tuple(item for item in node.items if isinstance(item, Quantity))) or node
        node, unit = (node.value, node.unit) if isinstance(node, Quantity) else split_unit(node)
        if free_symbols(node):
            return _with_unknown_unit(text)
        written = decimal_of(node)
        return float(value_at(node, {}, is_real=True)), unit, written.digits if written else 0
    except (UnreadableError, NotANumberError, TooLargeError, OverflowError, TypeError):
        return None


_UNKNOWN_UNIT = re.compile(r"([-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*([A-Za-z]{1,5})")


def _with_unknown_unit(text: str) -> tuple[float, Unit, int] | None:
    """Returns value, unit and digits of "5.93 MiB", with the letters after the number as a label."""
    match = _UNKNOWN_UNIT.fullmatch(clean(text).strip())
    if match is None:
        return None
    return float(match[1].replace(",", "")), ((match[2], 1),), 0
