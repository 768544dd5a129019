"""Finds phrases which show that a guided solution refers to its guide.

To extend the list, add a name, under which reports count the phrase, and a pattern. A word problem may itself
mention a teacher, or a solution with salt in it. So a match does not count if the question has the same
words: those of the pattern's group `said`, or the whole phrase if the pattern has no such group.
"""

import re

__all__ = ["leaked_phrase"]

_SOLUTION = r"(?:solution|answer|proof|approach|method|reasoning|explanation|work|derivation|hint)"
_OWNER = r"(?:reference|expert|teacher|provided|given|supplied|worked|sample|model|official|above|original)"

_THE = r"(?:the|this|your|that)"
_SAYS = r"(?:says|said|solves|solved|shows|showed|states|stated|uses|used|got)"
_PLACED = r"(?:above|provided|given|shown|supplied)"
_TUTOR = r"(?:teacher|expert|tutor|instructor)"

_PHRASES = (
    ("the reference solution", rf"\b{_THE}\s+(?:{_OWNER}(?:'s)?[\s-]+)+{_SOLUTION}\b"),
    ("the solution above", rf"\b{_SOLUTION}\s+{_PLACED}\s+(?:above|to\s+me|here|earlier)\b"),
    ("the solution provided", rf"\b{_THE}\s+(?P<said>{_SOLUTION})\s+(?:provided|given|supplied|shown)\b"),
    ("as provided", rf"\bas\s+{_PLACED}\s+(?:in|by)\s+the\s+(?:{_SOLUTION}|{_TUTOR})\b"),
    ("as provided", r"\bas\s+(?:was\s+)?(?P<said>provided|supplied)\b"),
    ("the teacher said", rf"\bthe\s+(?P<said>{_TUTOR})(?:'s)?\s+{_SAYS}\b"),
    ("the teacher", rf"\bthe\s+(?P<said>{_TUTOR})\b"),
    ("according to the solution", rf"\b(?:according\s+to|based\s+on|looking\s+at)\s+{_THE}\s+{_SOLUTION}\b"),
    ("in my own words", r"\bin\s+my\s+own\s+words\b"),
    ("matches the answer", rf"\b(?:matches|agrees\s+with)\s+{_THE}\s+(?:{_OWNER}\s+)*{_SOLUTION}\b"),
    ("without copying", rf"\bwithout\s+(?:copying|looking\s+at)\s+{_THE}\s+(?:{_OWNER}\s+)*{_SOLUTION}\b"),
)

_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _PHRASES)


def leaked_phrase(text: str, question: str) -> str | None:
    """Returns the name of the first phrase of the list that mentions the guide, or None."""
    asked = _folded(question)
    for name, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            said = match.groupdict().get("said") or match[0]
            if not _mentions(asked, _folded(said)):
                return name
    return None


def _mentions(asked: str, said: str) -> bool:
    """Returns whether the question contains these words; words for a teacher also count in the plural."""
    plural = "s?" if re.fullmatch(_TUTOR, said) else ""
    return re.search(rf"\b{re.escape(said)}{plural}\b", asked) is not None


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
