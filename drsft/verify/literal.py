"""Judges answers that are strings: equal to the reference, or matched by it as a regular expression."""

import re

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.extraction.announced import announced_text
from drsft.verify.extraction.formal import boxes
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.statement import FORMAL, Place
from drsft.verify.options import VerifyOptions
from drsft.verify.words import without_fonts

__all__ = ["is_pattern", "judge_exact", "judge_regex"]

_MARKED = FORMAL | {Place.PHRASE}


def judge_exact(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT if the answer equals the reference, except for white space and a final full stop.

    The answer is the whole text, or what a box, a tag, a JSON field, a #### mark or an "answer is" states,
    with or without LaTeX's font commands. NO_ANSWER means that the text is empty.
    """
    if not case.text.strip():
        return Verdict(outcome=Outcome.NO_ANSWER, reason="empty")
    wanted = " ".join(case.reference.split())
    found = find_answer(case.text, is_box_required=options.require_box)
    candidates = [case.text]
    if found is not None and found.place in _MARKED:
        candidates += [found.text, without_fonts(found.text)]
        if found.place is Place.PHRASE:
            candidates.append(announced_text(case.text))
    if any(" ".join(candidate.split()).rstrip(".") == wanted.rstrip(".") for candidate in candidates):
        return Verdict(outcome=Outcome.CORRECT, reason="equal", answer=candidates[-1])
    return Verdict(outcome=Outcome.WRONG, reason="not equal", answer=candidates[-1])


def judge_regex(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT if the reference, a regular expression, matches the whole content of the text's box.

    In a text without a box, it has to match any part of it.
    """
    if not case.text.strip():
        return Verdict(outcome=Outcome.NO_ANSWER, reason="empty")
    try:
        pattern = re.compile(case.reference)
    except (re.error, OverflowError, RecursionError):
        return Verdict(outcome=Outcome.UNJUDGED, reason="the reference is not a regular expression")
    box, _ = boxes(case.text)
    if not box and options.require_box:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no box")
    match = pattern.fullmatch(box) if box else pattern.search(case.text)
    if match is None:
        return Verdict(outcome=Outcome.WRONG, reason="no match", answer=box or None)
    return Verdict(outcome=Outcome.CORRECT, reason="match", answer=match.group())


def is_pattern(reference: str) -> bool:
    try:
        re.compile(reference)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
