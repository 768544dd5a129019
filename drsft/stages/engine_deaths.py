"""Skips work that has killed its engine three times, or only the row that causes it; other work continues.

Ray restarts an actor without limit and gives it the same work again. The board therefore records what each
actor worked on when it died. This module does not use Ray.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from drsft.stages.row_search import Culprit, RowSearch

__all__ = ["MAX_TRIES", "EngineDeaths", "Permit"]

MAX_TRIES = 3
KILLED = "its process ended without a message: killed, or out of memory"
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")  # addresses and sizes differ between deaths of one cause


class Permit(StrEnum):
    """Whether, and how, an actor may begin a piece of work."""

    FREE = "free"
    ALONE = "alone"  # it was in an engine that died: it must run without other such work
    IN_PARTS = "in parts"  # it killed engines too often: first find the row that does it
    NEVER = "never"  # it is skipped


@dataclass(slots=True)
class _Actor:
    node_id: str
    num_starts: int  # in a row on this node, of which none got as far as a ready engine
    is_ready: bool = False
    work: set[str] = field(default_factory=set)


class EngineDeaths:
    """Counts how often each piece of work of one stage was running when an engine died, and decides whether
    it may run again.

    Actors report when they start, become ready, begin and end work, and fail.
    """

    def __init__(self, *, can_divide: bool = False) -> None:
        """With `can_divide`, work consists of rows: before work is skipped, the row that kills its engine is
        searched.
        """
        self.given_up: dict[str, str] = {}  # work -> the cause of its engine's deaths
        self._can_divide = can_divide
        self._searches: dict[str, RowSearch] = {}  # by work
        self._actors: dict[str, _Actor] = {}
        self._num_deaths: Counter[tuple[str, str]] = Counter()  # (work, cause without its numbers)

    def starts(self, actor_id: str, node_id: str) -> bool:
        """Records the start of an actor's process. Returns False if it has started too often without becoming
        ready.

        A start on the same node as before means that the previous process ended. A start on another node may
        only mean that a node was lost and replaced.
        """
        last = self._actors.get(actor_id)
        num_starts = 1
        if last is not None and last.node_id == node_id:
            self._blame(last.work, KILLED)
            num_starts += 0 if last.is_ready else last.num_starts
        self._actors[actor_id] = _Actor(node_id, num_starts)
        return num_starts <= MAX_TRIES

    def is_replaced(self, actor_id: str, node_id: str) -> bool:
        """Returns whether the actor's newest process is on another node than `node_id`.

        If so, the process that asks is on a node that the cluster has lost.
        """
        return self._actors[actor_id].node_id != node_id

    def ready(self, actor_id: str) -> None:
        self._actors[actor_id].is_ready = True

    def begins(self, actor_id: str, work: str, *, is_alone: bool) -> Permit:
        """Returns whether an actor may begin this work; for FREE and IN_PARTS, records that it has begun.

        Work that was running when an engine died gets ALONE, unless `is_alone` says that the actor runs no
        other such work.
        """
        if work in self.given_up:
            return Permit.NEVER
        is_suspect = any(name == work for name, _ in self._num_deaths)
        if is_suspect and not is_alone:
            return Permit.ALONE
        self._actors[actor_id].work.add(work)
        return Permit.IN_PARTS if work in self._searches else Permit.FREE

    def next_part(self, work: str, num_rows: int) -> range | Culprit | None:
        """Returns the rows to run next by themselves, or the row to leave out once it is found.

        Returns None if no single row is the cause.

        `num_rows` is the number of rows of the work. A call also means that the previous part, if any, ran
        without a death.
        """
        if work in self.given_up:
            return None
        search = self._searches[work]
        return search.culprit or search.part(num_rows)

    def part_survives(self, work: str) -> None:
        search = self._searches[work]
        if not search.survived():
            self._give_up(work, search.cause)

    def ends(self, actor_id: str, work: str) -> None:
        self._actors[actor_id].work.discard(work)

    def dies(self, actor_id: str, cause: str) -> None:
        """Records that an engine failed for this cause, as reported by its actor, which still runs."""
        actor = self._actors[actor_id]
        self._blame(actor.work, cause)
        actor.work.clear()

    def _blame(self, work: set[str], cause: str) -> None:
        for one in work:
            search = self._searches.get(one)
            if search is not None:
                if not search.died():
                    self._give_up(one, cause)
                continue
            key = (one, _NUMBERS.sub("#", cause))
            self._num_deaths[key] += 1
            if self._num_deaths[key] < MAX_TRIES:
                continue
            if self._can_divide and len(self.given_up) < MAX_TRIES:  # else it is the engine rather than rows
                self._searches[one] = RowSearch(cause)
            else:
                self.given_up[one] = cause

    def _give_up(self, work: str, cause: str) -> None:
        self.given_up[work] = f"{cause}; no single row is to blame"
