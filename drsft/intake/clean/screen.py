"""The interface of a screen, which looks at one problem after another and rejects those not to train on."""

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
        """Returns why the problem is set aside, or None to accept it; the screen may remember it then.

        `place` says where the problem comes from ("file line 3").
        """
        ...
