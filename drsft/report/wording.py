"""Formats numbers and names for the report and the terminal."""

from drsft.records import Outcome, Phase, Record, Source

__all__ = [
    "CONFIDENCE",
    "OUTCOME_NAMES",
    "PHASE_NAMES",
    "SOURCE_NAMES",
    "count",
    "decimal",
    "dropped_because",
    "duration",
    "interval",
    "joined",
    "percent",
    "plural",
    "points",
    "work_name",
]

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
CONFIDENCE = f"95{NARROW_SPACE}%"

SOURCE_NAMES = {
    Source.OWN: "Own",
    Source.REWRITTEN: "Rewritten",
    Source.HINTED: "Hinted",
    Source.TEACHER: "Teacher",
    Source.EXPERT: "Expert",
    Source.DROPPED: "Dropped",
}
OUTCOME_NAMES = {
    Outcome.CORRECT: "Correct",
    Outcome.WRONG: "Wrong",
    Outcome.NO_ANSWER: "No answer",
    Outcome.TRUNCATED: "Truncated",
    Outcome.UNJUDGED: "Unjudged",
}
PHASE_NAMES = {
    Phase.SELF_ALIGN: "Self-alignment",
    Phase.GUIDED: "Guided re-solving",
    Phase.ANALYSIS: "Analysis for a hint",
    Phase.HINTED: "Hinted Decoding",
    Phase.TEACHER: "Teacher",
    Phase.TEACHER_GUIDED: "Guided by a teacher",
}


def dropped_because(record: Record) -> str:
    """Returns why nothing is kept of a record whose source is DROPPED.

    A record without attempts was set aside before it was sampled.
    """
    if not record.attempts:
        return "the problem was not sampled"
    return "no sample was accepted, and expert rows are dropped"


def work_name(stage: str) -> str:
    """Returns the noun for a stage's work: "rewrite" gives "Rewriting", "gap" gives "Scoring"."""
    return {"rewrite": "Rewriting", "gap": "Scoring", "train": "Training", "evaluate": "Evaluation"}[stage]


def decimal(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Formats a number with a minus sign (U+2212) instead of a hyphen, and never as negative zero."""
    text = f"{abs(value):,.{digits}f}"
    is_zero = not text.strip("0.,")
    if value < 0 and not is_zero:
        return MINUS + text
    return f"+{text}" if signed and not is_zero else text


def percent(share: float, digits: int = 1) -> str:
    """Formats a share in 0..1: 0.4123 gives 41.2 %."""
    return f"{decimal(100 * share, digits)}{NARROW_SPACE}%"


def points(difference: float) -> str:
    """Formats a difference of two shares in percentage points, with its sign: 0.0314 gives +3.1."""
    return decimal(100 * difference, 1, signed=True)


def interval(low: float, high: float) -> str:
    """Formats the bounds of a share in per cent: 55.1 to 61.4."""
    return f"{decimal(100 * low, 1)} to {decimal(100 * high, 1)}"


def count(number: float) -> str:
    return decimal(round(number), 0)


def duration(seconds: float) -> str:
    """Formats a time: 42 s, 3.1 min, 2.4 h."""
    if seconds < 99.5:
        return f"{decimal(seconds, 0 if seconds >= 9.95 else 1)} s"
    return f"{decimal(seconds / 60, 1)} min" if seconds < 5970 else f"{decimal(seconds / 3600, 1)} h"


def plural(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def joined(names: list[str]) -> str:
    """Returns the names joined as in a sentence: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
