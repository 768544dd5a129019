"""Phrases by which a guided solution betrays that it saw another one.

The list is meant to grow: an entry is the name that reports count, and a pattern. Patterns are kept narrow: a
word problem may well speak of a teacher, so "the teacher" alone is none.
"""

import re

__all__ = ["leaked_phrase"]

_SOLUTION = r"(?:solution|answer|proof|approach|method|reasoning|explanation|work|derivation|hint)"
_OWNER = r"(?:reference|expert|teacher|provided|given|supplied|worked|sample|model|official|above|original)"

_THE = r"(?:the|this|your|that)"
_SAYS = r"(?:says|said|solves|solved|shows|showed|states|stated|uses|used|got)"
_PLACED = r"(?:above|provided|given|shown|supplied)"

_PHRASES = (
    ("the reference solution", rf"\b{_THE}\s+(?:{_OWNER}(?:'s)?[\s-]+)+{_SOLUTION}\b"),
    ("the solution above", rf"\b{_SOLUTION}\s+{_PLACED}\s+(?:above|to\s+me|here|earlier)\b"),
    ("as provided", rf"\bas\s+{_PLACED}\s+(?:in|by)\s+the\s+(?:{_SOLUTION}|teacher|expert)\b"),
    ("the teacher said", rf"\bthe\s+(?:teacher|expert)(?:'s)?\s+{_SAYS}\b"),
    ("according to the solution", rf"\b(?:according\s+to|based\s+on|looking\s+at)\s+{_THE}\s+{_SOLUTION}\b"),
    ("in my own words", r"\bin\s+my\s+own\s+words\b"),
    ("matches the answer", rf"\b(?:matches|agrees\s+with)\s+{_THE}\s+(?:{_OWNER}\s+)*{_SOLUTION}\b"),
    ("without copying", rf"\bwithout\s+(?:copying|looking\s+at)\s+{_THE}\s+(?:{_OWNER}\s+)*{_SOLUTION}\b"),
)

_ANY = re.compile("|".join(f"(?P<p{i}>{pattern})" for i, (_, pattern) in enumerate(_PHRASES)), re.IGNORECASE)


def leaked_phrase(text: str) -> str | None:
    """The name of the first phrase that betrays the guide, or None."""
    match = _ANY.search(text)
    return _PHRASES[int((match.lastgroup or "p0")[1:])][0] if match else None
