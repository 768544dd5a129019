"""Finds the words of short texts, compares two texts by their words, and puts nouns into the singular."""

import re
from collections.abc import Container

__all__ = ["NUMBER_WORDS", "has_words", "is_prose", "label_of", "same_words", "without_fonts", "words_of"]

_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_BELOW_TWENTY = (*_ONES, "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen")
NUMBER_WORDS = {
    **{word: value for value, word in enumerate((*_BELOW_TWENTY, "seventeen", "eighteen", "nineteen"), 1)},
    **{word: 10 * tens for tens, word in enumerate(_TENS, 2)},
    **{f"{ten}-{one}": 10 * t + o for t, ten in enumerate(_TENS, 2) for o, one in enumerate(_ONES, 1)},
}
_FONT = re.compile(r"\\(?:text|textbf|mathrm|mbox|textit|texttt|emph)\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z*]+\}|\\[A-Za-z]+")
_WORDS = re.compile(r"[A-Za-z一-鿿][A-Za-z一-鿿 ,'-]*")
_ORDINARY = re.compile(r"[A-Za-z]?[a-z]{3,}")
_PROSE = re.compile(r"(?<![\\A-Za-z])[a-z]{3,}[ ,]+(?:[a-z]{1,3} )*[a-z]{3,}")
_IDLE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")  # a space between words and numbers tells them apart


def without_fonts(text: str) -> str:
    r"""Returns a text without LaTeX's font commands: \text{even} becomes even."""
    return _FONT.sub(r" \1 ", text)


def words_of(text: str) -> str:
    """Returns the words of "\\text{even}" or "even"; "" if the text is not words only."""
    text = " ".join(without_fonts(text).replace("{", " ").replace("}", " ").split()).strip(". ")
    return text if _WORDS.fullmatch(text) else ""


def same_words(first: str, second: str) -> bool:
    """Tells whether two texts have the same words, or are equal except for fonts and needless spaces."""
    words = words_of(first).lower()
    plain = (_IDLE_SPACE.sub("", without_fonts(text)) for text in (first, second))
    return (len(words) > 1 and words == words_of(second).lower()) or len(set(plain)) == 1


def is_prose(text: str) -> bool:
    """Returns whether a text has two words of three or more lower-case letters, one after the other.

    Shorter words in lower case may stand between them. The first word has no capital letter.
    """
    return _PROSE.search(text) is not None


def has_words(text: str, *, but: Container[str]) -> bool:
    """Tells whether a text has a word of three lower-case letters or more that is not among `but`."""
    return any(word not in but for word in _ORDINARY.findall(_COMMAND.sub(" ", text)))


def label_of(word: str) -> str:
    """Returns a counted noun in lower case and in the singular: "box" for "Boxes"."""
    word = word.strip(" .").lower()
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word
