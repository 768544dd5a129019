"""What passes between the pool and a worker: one JSON line each way.

A case is `[kind, question, reference, text]`; a reply is `[outcome, reason, answer]` or `null`, which
restarts the case's clock (the worker has just loaded sympy, which is not the case's fault). Replies come in
the order of the cases, so no ids are needed.
"""

import json
from dataclasses import dataclass

from drsft.records import Outcome, Problem, Verdict

__all__ = ["Case", "case_of", "decode_case", "decode_reply", "encode_case", "encode_verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a verifier needs to know; a problem's demonstration never reaches it."""

    kind: str
    question: str
    reference: str
    text: str


def case_of(problem: Problem, text: str) -> Case:
    return Case(kind=problem.kind, question=problem.question, reference=problem.reference, text=text)


def encode_case(case: Case) -> bytes:
    """Lone surrogates and NUL survive: json escapes everything outside ASCII."""
    return json.dumps([case.kind, case.question, case.reference, case.text]).encode("ascii") + b"\n"


def decode_case(line: bytes) -> Case:
    kind, question, reference, text = json.loads(line)
    return Case(kind=kind, question=question, reference=reference, text=text)


def encode_verdict(verdict: Verdict) -> bytes:
    return json.dumps([verdict.outcome.value, verdict.reason, verdict.answer]).encode("ascii") + b"\n"


def decode_reply(line: bytes) -> Verdict | None:
    reply = json.loads(line)
    if reply is None:
        return None
    outcome, reason, answer = reply
    return Verdict(outcome=Outcome(outcome), reason=reason, answer=answer)
