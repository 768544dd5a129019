"""The messages between the pool and a worker: one JSON line each way.

A case is `[kind, question, reference, text]`. A reply is `[outcome, reason, answer, steps, is_worker_spent]`,
where `steps` is `[num_read, num_failed, first_failure, derives_answer]` or null. A reply that is null
restarts the case's deadline: the worker has just loaded sympy, which is not the case's fault. Replies come in
the order of the cases, so no ids are needed.
"""

import json
from dataclasses import astuple, dataclass

from drsft.records import Outcome, StepReport, Verdict
from drsft.verify.case import Case

__all__ = ["Reply", "decode_case", "decode_reply", "encode_case", "encode_reply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A verdict, and whether the worker must be replaced after it, since its memory may be fragmented."""

    verdict: Verdict
    is_worker_spent: bool = False


def encode_case(case: Case) -> bytes:
    """Returns the case as a line. Lone surrogates and NUL survive: json escapes everything outside ASCII."""
    return json.dumps([case.kind, case.question, case.reference, case.text]).encode("ascii") + b"\n"


def decode_case(line: bytes) -> Case:
    """Returns the case of a line that `encode_case` wrote."""
    kind, question, reference, text = json.loads(line)
    return Case(kind=kind, question=question, reference=reference, text=text)


def encode_reply(reply: Reply | None) -> bytes:
    """Returns the reply as a line. None becomes the line "null", which restarts the case's deadline."""
    if reply is None:
        return b"null\n"
    verdict, steps = reply.verdict, reply.verdict.steps
    report = None if steps is None else astuple(steps)
    fields = [verdict.outcome.value, verdict.reason, verdict.answer, report, reply.is_worker_spent]
    return json.dumps(fields).encode("ascii") + b"\n"


def _report(num_read: int, num_failed: int, first: str | None, derives_answer: bool | None) -> StepReport:
    return StepReport(
        num_read=num_read, num_failed=num_failed, first_failure=first, derives_answer=derives_answer
    )


def decode_reply(line: bytes) -> Reply | None:
    """Returns the reply that `encode_reply` wrote as a line; None for "null"."""
    fields = json.loads(line)
    if fields is None:
        return None
    outcome, reason, answer, report, is_worker_spent = fields
    steps = None if report is None else _report(*report)
    verdict = Verdict(outcome=Outcome(outcome), reason=reason, answer=answer, steps=steps)
    return Reply(verdict=verdict, is_worker_spent=is_worker_spent)
