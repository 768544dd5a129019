"""Defines the result of one check of `drsft doctor`, with the way to fix a problem that it found."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "State", "judged"]

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    state: State
    found: str
    cure: str = ""  # empty if nothing is wrong


def judged(name: str, is_right: bool, *, found: str, cure: str, otherwise: State = "wrong") -> Check:
    """Returns a check in state `ok` if `is_right`; else in state `otherwise`, with its fix `cure`."""
    return Check(name=name, state="ok" if is_right else otherwise, found=found, cure="" if is_right else cure)
