"""Compares two written answers: as plain text, then as parsed trees, then by symbolic algebra (sympy)."""

import re
from fractions import Fraction

from drsft.records import Outcome
from drsft.verify import deadlines
from drsft.verify.maths.answer import readings_of
from drsft.verify.maths.compare import comparison_of, same_answer
from drsft.verify.maths.evaluate import TooLargeError
from drsft.verify.maths.identity import Agreement
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.symbolic import load, symbolic
from drsft.verify.maths.tokens import FUNCTIONS
from drsft.verify.words import has_words, is_prose, same_words, words_of

__all__ = ["MAX_CHARS", "plain_finding", "same_math", "same_when_parsed"]

SYMBOLIC_BUDGET_S = 2.5  # below the pool's limit for a case, so that giving up is a finding and not a kill
MAX_CHARS = 4_000  # of an answer that is parsed; longer ones are only compared as text
MAX_SYMBOLIC_CHARS = 1_000
NOISE_CHARS = 10
_PLAIN_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,300})(?:\.\d{1,300})?|-?\.\d{1,300}")


def same_math(reference: str, answer: str) -> tuple[Outcome, str]:
    """Returns whether an answer equals the reference, as an outcome, and the reason: which step decided."""
    if (finding := plain_finding(reference, answer)) is not None:
        return finding
    first, second = clean(reference), clean(answer)
    if max(len(first), len(second)) > MAX_CHARS:
        return Outcome.UNJUDGED, "answer too long"
    if same_words(first, second):
        return Outcome.CORRECT, "same words"
    try:
        agreement = _same_read(first, second)
    except TooLargeError:
        return Outcome.UNJUDGED, "value too large to compute"
    match agreement:
        case Agreement.SAME:
            return Outcome.CORRECT, "equal after parsing"
        case Agreement.DIFFERENT:
            return Outcome.WRONG, _difference(first, second)
        case Agreement.INCOMPARABLE:
            is_text = words_of(first) != ""
            return Outcome.UNJUDGED, "words cannot be compared" if is_text else "counts of other things"
    return _by_symbols(first, second)


def plain_finding(reference: str, answer: str) -> tuple[Outcome, str] | None:
    """Returns outcome and reason for equal texts and plain numbers, in linear time; None for all others."""
    if reference.strip() == answer.strip():
        return Outcome.CORRECT, "identical"
    first, second = clean(reference), clean(answer)
    if first == second:
        return Outcome.CORRECT, "equal after normalising"
    if max(len(first), len(second)) >= NOISE_CHARS and ("." in first or "." in second):
        return None  # 0.30000000000000004 is a computer's 0.3
    if _PLAIN_NUMBER.fullmatch(first) and _PLAIN_NUMBER.fullmatch(second):
        is_same = _number(first) == _number(second)
        return (Outcome.CORRECT if is_same else Outcome.WRONG), "plain numbers"
    return None


def _number(plain: str) -> int | Fraction:
    """Returns the exact value; an int if possible, since a Fraction takes ten times as long to make."""
    digits = plain.replace(",", "")
    return Fraction(digits) if "." in digits else int(digits)


def _same_read(reference: str, answer: str) -> Agreement:
    first, second = readings_of(reference), readings_of(answer)
    findings = [same_answer(left, right) for left in first for right in second]
    if Agreement.SAME in findings:
        return Agreement.SAME
    return findings[0] if findings else Agreement.UNKNOWN


def _difference(reference: str, answer: str) -> str:
    """Returns the reason why two parsed answers differ: by value, or by types without a comparison."""
    first, second, comparison = comparison_of(readings_of(reference)[0], readings_of(answer)[0])
    if comparison is None:
        return f"no comparison of {first.value} with {second.value}"
    return "different after parsing"


def _by_symbols(reference: str, answer: str) -> tuple[Outcome, str]:
    if max(len(reference), len(answer)) > MAX_SYMBOLIC_CHARS:
        return Outcome.UNJUDGED, "too long for symbolic algebra"
    is_read = bool(readings_of(reference))
    if not is_read and is_prose(reference):
        if "".join(reference.split()) == "".join(answer.split()):
            return Outcome.CORRECT, "same words"
        return Outcome.UNJUDGED, "reference is a sentence"  # of which sympy would parse a fragment
    if has_words(answer, but=FUNCTIONS):
        return Outcome.WRONG, "answer is not mathematics"
    load()
    try:
        with deadlines.budget(SYMBOLIC_BUDGET_S):
            finding = symbolic(reference, answer)
    except deadlines.OverBudget:
        return Outcome.UNJUDGED, "symbolic algebra took too long"
    except Exception as error:  # whatever sympy raises: it gave up
        return Outcome.UNJUDGED, f"symbolic algebra failed: {type(error).__name__}"
    if finding.agreement in (Agreement.SAME, Agreement.DIFFERENT):
        outcome = Outcome.CORRECT if finding.agreement is Agreement.SAME else Outcome.WRONG
        return outcome, "symbolic, checked by numbers" if finding.is_checked else "symbolic"
    if is_read or finding.has_reference:
        return Outcome.WRONG, "answer is not mathematics"
    if len(words_of(reference).split()) in (1, 2, 3):
        return Outcome.WRONG, "other words"
    return Outcome.UNJUDGED, "reference is not mathematics"


def same_when_parsed(reference: str, answer: str) -> bool:
    """Returns whether two short answers are equal as text or after parsing; symbolic algebra is not tried."""
    if (finding := plain_finding(reference, answer)) is not None:
        return finding[0] is Outcome.CORRECT
    try:
        return _same_read(clean(reference), clean(answer)) is Agreement.SAME
    except TooLargeError:
        return False
