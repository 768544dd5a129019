"""Find the answer in a text, and the answer of a reference."""

import re

__all__ = ["find_answer", "last_box", "parse_reference"]

BOX = re.compile(r"\\f?boxed\s*\{")
PHRASE = re.compile(r"(?:####|answer\s*(?:is|:|=))\s*:?\s*(.+)", re.IGNORECASE)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?|-?\.\d+")


def last_box(text: str) -> str | None:
    """The content of the last closed box, braces balanced."""
    for match in reversed(list(BOX.finditer(text))):
        depth = 1
        for index in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[match.end() : index].strip()
    return None


def find_answer(text: str) -> str | None:
    box = last_box(text)
    if box is not None:
        return box or None
    phrases = PHRASE.findall(text)
    if phrases:
        return str(phrases[-1]).strip().rstrip(".") or None
    numbers = NUMBER.findall(text)
    return str(numbers[-1]) if numbers else None


def parse_reference(reference: str, kind: str) -> str | None:
    """The answer that a reference states, or None where no verifier of `kind` could read it (quarantine)."""
    reference = reference.strip()
    if not reference:
        return None
    if kind == "math":
        return find_answer(reference) if "boxed" in reference or "####" in reference else reference
    return reference
