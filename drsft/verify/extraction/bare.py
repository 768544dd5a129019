"""Finds a bare answer: a short text of one line that is not a sentence."""

import re

from drsft.verify.extraction.concluded import ASSIGNMENTS, arrived_at
from drsft.verify.extraction.quantities import COUNTS, LABELS, NUMBER
from drsft.verify.extraction.sentences import MATH
from drsft.verify.extraction.stated import LEAD, is_readable
from drsft.verify.extraction.statement import Place, Statement
from drsft.verify.maths.answer import readings_of
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.syntax import Listing, Node, Quantity, Said, Sym
from drsft.verify.maths.units import is_label
from drsft.verify.words import words_of

__all__ = ["bare"]


_TRUTH = re.compile(r"(yes|no)\s*[,;](?!\s*(?:it is|it['’]s)\s+\S*\d)", re.IGNORECASE)
_WORDS = re.compile(r"\[?[A-Za-z]+(?:, [A-Za-z]+)+\]?")


def bare(text: str) -> Statement | None:
    """Returns the text as its answer if it is short, one line, and not a sentence; else None."""
    bare = text.strip().strip("*_` ").strip()
    if not bare or len(bare) > 300 or "\n" in bare.strip("$ \n"):
        return None
    if (lead := LEAD.match(bare)) is not None:
        bare = bare[lead.end() :].rstrip("!")  # "It's 24!" is no factorial
    plain = bare.rstrip(".")
    if (truth := _TRUTH.match(plain)) is not None:
        return Statement.of(truth[1], Place.WHOLE_TEXT)
    if (
        COUNTS.fullmatch(plain)
        or LABELS.fullmatch(plain)
        or ASSIGNMENTS.fullmatch(plain)
        or _WORDS.fullmatch(plain)
    ):
        return Statement.of(plain, Place.WHOLE_TEXT)
    readings = readings_of(clean(plain)) if len(plain) < 40 else ()
    if readings and (isinstance(readings[0], Sym | Said) or _is_compound(readings[0])):
        return Statement.of(plain, Place.WHOLE_TEXT)  # "the empty set", "March 5, 2021"
    without_math = MATH.sub("", bare)
    if re.search(
        r"[^\W\d_]{2,}[^\\{}]*\s[^\W\d_]{2,}",
        re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?", "", without_math),
    ):
        return None
    if re.search(r"(?<![\\{A-Za-z])[A-Za-z]{4,}\s", without_math) and not is_readable(bare):
        return None  # "O resultado é 64"
    if re.search(r"[^\x00-\u2fff]", without_math):
        is_sentence = NUMBER.search(bare) is not None or not words_of(bare.strip("。"))
        if is_sentence and not is_readable(bare):
            return None
    if MATH.search(bare) and re.search(r"(?!and|or)[A-Za-z]{2,}", without_math):
        return None
    if "\\begin{align" in bare:
        return None
    if "; " in bare and bare.count("=") > 1:
        bare = bare.rpartition("; ")[2]
    return Statement.of(arrived_at(bare) if "[" in bare else bare, Place.WHOLE_TEXT)


def _is_compound(node: Node) -> bool:
    """Returns whether a value has several units, as in 1 hr 15 min."""
    return isinstance(node, Listing) and all(
        isinstance(item, Quantity) and not is_label(item.unit) for item in node.items
    )
