"""The seam to every verifier: a problem and a completion's text in, a verdict out."""

from typing import Protocol

from drsft.records import Problem, Verdict

__all__ = ["Verifier"]


class Verifier(Protocol):
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        """Never raises on any text: what cannot be judged (time limit, crash) is UNJUDGED with its reason."""
        ...
