"""Verdicts that need no process: a short text whose answer is a plain number, asked for a plain number.

Crossing to a worker and back costs several times what this does, and most samples of word problems are of
this sort. Only linear work on a bounded text is done here; what is not plainly decided goes to a worker,
whose verdict on these cases is the same one (a test holds the two together).
"""

from drsft.records import Verdict
from drsft.verify.find import find_answer
from drsft.verify.maths.judge import reference_answer
from drsft.verify.maths.same import plain_finding
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case

__all__ = ["inline_verdict"]

MAX_CHARS = 4_000


def inline_verdict(case: Case, options: VerifyOptions) -> Verdict | None:
    """The verdict, or None where a worker has to find it."""
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
