"""The results of many trials as one table."""

from collections import defaultdict
from collections.abc import Sequence

from tests.faults.trial import Result

__all__ = ["markdown"]

KINDS = (
    "lost",
    "doubled",
    "wrong",
    "partial",
    "orphans",
    "left over",
    "too much redone",
    "unclear",
    "unfinished",
)
HEADINGS = ("fault", "trials", "continued", "stopped, resumed by the same command", *KINDS)


def markdown(results: Sequence[Result]) -> str:
    """A row for each fault, the sum last; trials whose fault was never due are counted apart."""
    by_fault: dict[str, list[Result]] = defaultdict(list)
    for one in sorted(results, key=lambda one: one.fault):
        by_fault[one.fault].append(one)
    rows = [_row(fault, trials) for fault, trials in by_fault.items()]
    rows.append(_row("**all**", results))
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    missed = sum(one.moment == "missed" for one in results)
    return "\n".join(
        [*lines, "", f"In {missed} of {len(results)} trials the run ended before the fault was due."]
    )


def _row(name: str, trials: Sequence[Result]) -> list[str | int]:
    went_on = sum(one.end == "finished" for one in trials)
    troubles = [sum(kind in one.troubles for one in trials) for kind in KINDS]
    return [name, len(trials), went_on, len(trials) - went_on, *troubles]
