"""The interface of a screen, which checks one problem after another and sets aside those not to train on."""

from dataclasses import dataclass
from typing import Protocol

from drsft.records import Problem

__all__ = ["Finding", "Screen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The reason why a problem is set aside: reports count `reason`; `detail` is about this problem."""

    reason: str
    detail: str


class Screen(Protocol):
    def look_at(self, problem: Problem, place: str) -> Finding | None:
        """Returns why the problem is set aside, or None to accept it.

        `place` is its origin ("file line 3").
        """
        ...
