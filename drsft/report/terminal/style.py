"""Provides what all terminal views share: colours of sources and outcomes, and texts safe to print."""

import unicodedata

from rich.table import Column

from drsft.records import Outcome

__all__ = ["OUTCOME_STYLES", "SOURCE_STYLES", "number_column", "visible"]

SOURCE_STYLES = {
    "own": "green",
    "rewritten": "cyan",
    "hinted": "blue",
    "teacher": "magenta",
    "expert": "yellow",
    "dropped": "dim",
}
OUTCOME_STYLES = {
    Outcome.CORRECT: "green",
    Outcome.WRONG: "red",
    Outcome.NO_ANSWER: "magenta",
    Outcome.TRUNCATED: "yellow",
    Outcome.UNJUDGED: "bold magenta",
}


def visible(text: str) -> str:
    """Returns the text, stripped, in a form that is safe to print on a terminal.

    Control and format characters become visible symbols, so that they cannot move the cursor or set the
    title. Newlines and tabs stay.
    """
    return "".join(
        _picture(char) if unicodedata.category(char) in ("Cc", "Cf") else char for char in text.strip()
    )


def _picture(char: str) -> str:
    if char in "\n\t":
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def number_column(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)
