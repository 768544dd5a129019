"""A bare answer: a short text of one line that is no sentence."""

import re

from drsft.verify.extraction.concluded import arrived_at
from drsft.verify.extraction.quantities import COUNTS, NUMBER
from drsft.verify.extraction.sentences import MATH
from drsft.verify.extraction.statement import Place, Statement
from drsft.verify.maths.answer import words_of

__all__ = ["bare"]


def bare(text: str) -> Statement | None:
    """A bare answer: short, one line, and no sentence."""
    bare = text.strip().strip("*_` ").strip()
    if not bare or len(bare) > 300 or "\n" in bare.strip("$ \n"):
        return None
    if COUNTS.fullmatch(bare.rstrip(".")):
        return Statement.of(bare.rstrip("."), Place.WHOLE_TEXT)
    without_math = MATH.sub("", bare)
    if re.search(
        r"[^\W\d_]{2,}[^\\{}]*\s[^\W\d_]{2,}",
        re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?", "", without_math),
    ):
        return None
    if re.search(r"[^\x00-\u2fff]", without_math) and (NUMBER.search(bare) or not words_of(bare.strip("。"))):
        return None
    if MATH.search(bare) and re.search(r"[A-Za-z]{2,}", without_math):
        return None
    if "\\begin{align" in bare:
        return None
    if "; " in bare and bare.count("=") > 1:
        bare = bare.rpartition("; ")[2]
    return Statement.of(arrived_at(bare) if "[" in bare else bare, Place.WHOLE_TEXT)
