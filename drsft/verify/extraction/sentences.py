"""Finds where sentences end, and which parts of them are mathematics."""

import re

__all__ = [
    "MATH",
    "SENTENCE_END",
    "content_of",
    "first_sentence",
    "is_amount",
    "is_refusal",
    "last_sentence",
    "without_offer",
]

MATH = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|(?<!\\)\$(?P<b>[^$]+?)(?<!\\)\$"
    r"|\\\((?P<c>.{1,5000}?)\\\)|\\\[(?P<d>.{1,5000}?)\\\]"
    r"|\\begin\{(?P<env>align|aligned|equation|gather|eqnarray)\*?\}(?P<e>.{1,5000}?)\\end\{(?P=env)\*?\}",
    re.DOTALL,
)

_AMOUNT = re.compile(r"\d[\d,.]*+(?:\W|\W.*\W)?\s", re.DOTALL)  # between two money signs

_ABBREVIATION = "".join(rf"(?<!\b{word})" for word in ("Mt", "Dr", "St", "Mr", "Mrs", "Ms", "Rs", "vs", "No"))

SENTENCE_END = re.compile(
    rf"(?<=[\w)\]}}$*%°\"”]){_ABBREVIATION}(?<!\b[ap]\.m)(?<!\bi\.e)(?<!\be\.g)(?<!\b[A-Z])[.!?](?=\s|$|[*\"'])|[。．!?！？]|\n"
    r"|(?<=\b[ap]\.m)\.(?=\s+[A-Z]|$)|(?<=\b[A-Z])\.(?=\s*$|\n)"
)


_OFFER = re.compile(
    r"(?:^|[.!\n])[^.!?\n]*(?:\b(?:you|me)\b[^.!?\n]*\?"
    r"|\b(?:let me know|feel free|hope this)\b[^.!?\n]*[.!]?)"
    r"[\s*_\"'”)]*$",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:I|[Ww]e)\s+(?:can(?:not|['’]t)|could(?:n['’]t| not)|am unable to)\s+"
    r"(?:determine|solve|answer|tell|say|know|find|conclude|select|provide|give)\b"
    r"|\b(?:I|[Ww]e)\s+do(?:n['’]t| not)\s+(?:know|have (?:enough|sufficient))\b"
    r"|\bI(?:['’]m| am) (?:sorry|not sure)\b|\bI doubt\b|\bI do(?:n['’]t| not) (?:think|believe)\b"
)


def without_offer(text: str) -> str:
    """Returns a text without a last sentence that addresses its reader: "Do you have other questions?"."""
    offer = _OFFER.search(text[-300:])
    return text if offer is None else text[: len(text) - len(text[-300:]) + offer.start() + 1]


def is_refusal(sentence: str) -> bool:
    """Returns whether a sentence says that its writer cannot answer."""
    return _REFUSAL.search(sentence) is not None


def last_sentence(text: str) -> str:
    """Returns the last sentence that is not blank; "" if there is none."""
    sentences = [part.strip() for part in SENTENCE_END.split(text.strip()) if part and part.strip(" *_`$")]
    return sentences[-1] if sentences else ""


def first_sentence(text: str) -> str:
    """Returns the text before the first sentence mark or line break outside mathematics.

    If there is none in the first 2,000 characters, it returns the first 500, or all of a longer formula with
    which the text begins.
    """
    inside = [match.span() for match in MATH.finditer(text[:2_000]) if not is_amount(match)]
    for end in SENTENCE_END.finditer(text[:2_000]):
        if not any(start < end.start() < stop for start, stop in inside):
            return text[: end.start()]
    return text[: max(500, inside[0][1] if inside and inside[0][0] == 0 else 0)]


def is_amount(match: "re.Match[str]") -> bool:
    """Returns whether the two dollar signs of a match of MATH are money ("$182, $128"), not delimiters."""
    is_followed = match.string[match.end() : match.end() + 1].isdigit()
    return bool(match["b"]) and is_followed and _AMOUNT.fullmatch(match["b"]) is not None


def content_of(segment: "re.Match[str]") -> str:
    return next((segment[name] for name in "abcde" if segment[name]), "")
