"""What a screen is: it looks at one problem after another and says which should not be trained on."""

from dataclasses import dataclass
from typing import Protocol

from drsft.records import Problem

__all__ = ["Finding", "Screen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why a problem is set aside: `reason` can be counted, `detail` is about this one."""

    reason: str
    detail: str


class Screen(Protocol):
    def look_at(self, problem: Problem, place: str) -> Finding | None:
        """None lets the problem pass; `place` ("file line 3") is where it stood."""
        ...
