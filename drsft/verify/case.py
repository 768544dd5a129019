"""The input of a verifier."""

from dataclasses import dataclass

from drsft.records import Problem

__all__ = ["BY_MODEL", "Case", "case_of"]

BY_MODEL = "judge"  # the one kind that no worker judges: a model behind HTTP does


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The input of a verifier: the problem's question and reference, and the text to judge, but no
    demonstration.
    """

    kind: str
    question: str
    reference: str
    text: str


def case_of(problem: Problem, text: str) -> Case:
    """Returns the input with which the problem's verifier judges `text`.

    Its question is the last user turn; for kind `judge`, a model that judges, it is the whole conversation.
    """
    question = problem.question_by_role if problem.kind == BY_MODEL else problem.question
    return Case(kind=problem.kind, question=question, reference=problem.reference, text=text)
