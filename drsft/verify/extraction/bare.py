"""A bare answer: a short text of one line that is no sentence."""

import re

from drsft.verify.extraction.concluded import ASSIGNMENTS, arrived_at
from drsft.verify.extraction.quantities import COUNTS, LABELS, NUMBER
from drsft.verify.extraction.sentences import MATH
from drsft.verify.extraction.stated import is_readable
from drsft.verify.extraction.statement import Place, Statement
from drsft.verify.maths.answer import readings_of, words_of
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.syntax import Clock, Day, Sym, Truth

__all__ = ["bare"]


_LEAD = re.compile(r"(?:so|thus|hence|therefore|then|it['’]?s|it is|that['’]s)\b[,:]?\s+", re.IGNORECASE)


def bare(text: str) -> Statement | None:
    """A bare answer: short, one line, and no sentence."""
    bare = text.strip().strip("*_` ").strip()
    if not bare or len(bare) > 300 or "\n" in bare.strip("$ \n"):
        return None
    if (lead := _LEAD.match(bare)) is not None:
        bare = bare[lead.end() :].rstrip("!")  # "It's 24!" is no factorial
    plain = bare.rstrip(".")
    if COUNTS.fullmatch(plain) or LABELS.fullmatch(plain) or ASSIGNMENTS.fullmatch(plain):
        return Statement.of(plain, Place.WHOLE_TEXT)
    readings = readings_of(clean(plain)) if len(plain) < 40 else ()
    if readings and isinstance(readings[0], Sym | Truth | Day | Clock):
        return Statement.of(plain, Place.WHOLE_TEXT)  # "the empty set", "March 5, 2021"
    without_math = MATH.sub("", bare)
    if re.search(
        r"[^\W\d_]{2,}[^\\{}]*\s[^\W\d_]{2,}",
        re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?", "", without_math),
    ):
        return None
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
