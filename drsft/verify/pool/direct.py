"""Judges without a worker process: a short text whose answer is a plain number, against a plain number.

Most samples of word problems are of this kind, and sending one to a worker costs several times as much as
judging it. Only work that is linear in a bounded text is done here. A worker judges every other case, and a
test checks that a worker would give the same verdict on these.
"""

from drsft.records import Verdict
from drsft.verify.case import Case
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.reference_answer import reference_answer
from drsft.verify.maths.same import plain_finding
from drsft.verify.options import VerifyOptions

__all__ = ["direct_verdict"]

MAX_CHARS = 4_000


def direct_verdict(case: Case, options: VerifyOptions) -> Verdict | None:
    """Returns the verdict on an answer that is a plain number; None if a worker has to judge the case."""
    if case.kind != "math" or len(case.text) > MAX_CHARS or len(case.reference) > 100:
        return None
    reference = reference_answer(case.reference)
    if reference is None or not reference[-1:].isdigit():
        return None
    found = find_answer(case.text, is_box_required=options.require_box)
    if found is None:
        return None
    finding = plain_finding(reference, found.text)
    if finding is None:
        return None
    outcome, reason = finding
    return Verdict(outcome=outcome, reason=reason, answer=found.text)
