"""Judges a mathematical answer: finds it, parses it, compares it.

Symbolic algebra runs only if that cannot decide.
"""

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.choice.verdict import judge_letter
from drsft.verify.extraction.announced import announced_text
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.reference_answer import reference_answer
from drsft.verify.maths.same import same_math
from drsft.verify.options import VerifyOptions
from drsft.verify.words import words_of

__all__ = ["judge_math"]


def judge_math(case: Case, options: VerifyOptions) -> Verdict:
    """Returns the verdict on a text; UNJUDGED if neither parsing nor symbolic algebra decides."""
    reference = reference_answer(case.reference)
    if reference is not None and (chosen := judge_letter(reference, case)) is not None:
        return chosen
    found = find_answer(case.text, is_box_required=options.require_box)
    if reference is not None and _repeats(reference, case.text):
        return Verdict(outcome=Outcome.CORRECT, reason="identical", answer=reference)
    if found is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no answer found")
    if reference is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="no parsable reference", answer=found.text)
    outcome, reason = same_math(reference, found.text)
    if outcome is not Outcome.CORRECT and _repeats(reference, announced_text(case.text)):
        return Verdict(outcome=Outcome.CORRECT, reason="identical", answer=reference)
    return Verdict(outcome=outcome, reason=reason, answer=found.text)


def _repeats(reference: str, announced: str) -> bool:
    """Returns whether the announced text contains the reference word for word."""
    first, second = ("".join(text.split()).rstrip(".") for text in (announced, reference))
    return bool(first) and (
        first == second or (words_of(reference) != "" and first.lower() == second.lower())
    )
