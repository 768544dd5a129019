"""What a verifier is given to judge."""

from dataclasses import dataclass

from drsft.records import Problem

__all__ = ["Case", "case_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a verifier needs to know; a problem's demonstration never reaches it."""

    kind: str
    question: str
    reference: str
    text: str


def case_of(problem: Problem, text: str) -> Case:
    """Returns the case of one text that answers `problem`."""
    return Case(kind=problem.kind, question=problem.question, reference=problem.reference, text=text)
