"""Reads short answers in words: true or false, a time of day, a date, or a list of numbers such as (1)(3)."""

import re
from datetime import date, datetime, time

__all__ = ["said_by"]

_TRUTHS = {"true": True, "false": False, "yes": True, "no": False}
_CLOCK = re.compile(r"(\d{1,2})(?:\s*:\s*([0-5]\d))?(?::([0-5]\d))?\s*([ap])\.?\s*m\b\.?", re.IGNORECASE)
_MONTH = r"[A-Z][a-z]{2,8}"
_DAY = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}|{_MONTH}\.? \d{{1,2}} \d{{4}}|\d{{1,2}} {_MONTH} \d{{4}}")
_DAY_FORMS = ("%Y-%m-%d", "%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y")
_NUMBERED = re.compile(r"(?:\(\s*(\d{1,2})\s*\)[\s,;、]*(?:and|和)?\s*){2,}(?:(?:正确|成立)\s*)?")


def said_by(text: str) -> bool | time | date | frozenset[str] | None:
    """Returns the value of "yes", "4:35 pm", "March 3rd, 2024" or "(1)(3)"; None for any other text."""
    if (truth := _TRUTHS.get(text.lower())) is not None:
        return truth
    if (clock := _CLOCK.fullmatch(text)) is not None:
        hour = int(clock[1]) % 12 + (12 if clock[4].lower() == "p" else 0)
        return time(hour, int(clock[2] or 0), int(clock[3] or 0))
    if _NUMBERED.fullmatch(text + " "):
        return frozenset(re.findall(r"\d+", text))
    return _day(text)


def _day(text: str) -> date | None:
    """Returns a date with its year, with its month by name or as in ISO 8601; None for anything else."""
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b(?: of\b)?|[,.]", " ", text) if len(text) < 40 else ""
    text = " ".join(text.split())
    for form in _DAY_FORMS if _DAY.fullmatch(text) else ():
        try:
            return datetime.strptime(text, form).date()
        except ValueError:  # another form's, or a day that no month has
            continue
    return None
