r"""Turns a question into a list of words for comparison: typesetting is removed, content is kept.

    "Tom's cat ate 1,000 mice; half of $x^2-3$!"  ->  toms cat ate 1000 mice half of x ^ 2 - 3

Case, punctuation, apostrophes, LaTeX layout and the spelling of numbers ("1,000", "1 000", "ten", "5.00")
make no difference. Numbers and the signs between them are words of their own: "x+3" is not "x-3". A hyphen
inside a word ("6-year-old") is no minus.
"""

import re
import unicodedata
from collections.abc import Sequence

from drsft.verify.words import NUMBER_WORDS

__all__ = ["figures", "words"]

_SIGNS = str.maketrans(
    {"×": "*", "⋅": "*", "·": "*", "÷": "/", "⁄": "/", "−": "-", "'": "", "’": "", "`": ""}
)
_LAYOUT = re.compile(r"\\(?:(?:left|right|displaystyle|quad|qquad)(?![a-z])|[;!: ])")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:,|\\,|\{,\}| )\d{3})+(?!\d)")
_CJK = "\u3040-\u30ff\u3400-\u9fff"  # written without spaces: each character counts as a word
_WORD = re.compile(
    rf"\d+(?:\.\d+)?|[{_CJK}]|[^\W\d_{_CJK}]+"
    r"|[+/=<>^%]|(?<!\*)\*(?!\*)"  # two stars are bold type
    r"|-(?=\s*(?:\d|[\\({]|[^\W\d_]\b))"  # a minus stands before a number, a bracket or a variable
)
_SPELT = {
    "zero": "0",
    # "one" is a pronoun more often.
    **{word: str(value) for word, value in NUMBER_WORDS.items() if 2 <= value <= 12 or value % 10 == 0},
    **{"hundred": "100", "thousand": "1000", "million": "1000000"},
    **{"cdot": "*", "div": "/", "dfrac": "frac", "tfrac": "frac"},
}
_FIGURE_WORDS = frozenset({"half", "third", "quarter", "twice", "thrice", "double", "triple", "dozen"})


def words(text: str) -> list[str]:
    """Returns the words of a text in order; empty when it holds neither letters nor numbers."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_SIGNS)
    text = _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), _LAYOUT.sub(" ", text))
    return [_plain(word) for word in _WORD.findall(text)]


def figures(of_words: Sequence[str]) -> tuple[str, ...]:
    """Returns the numbers, signs and words such as "half" or "double" among the words, in order.

    Variants of one exercise differ in these.
    """
    return tuple(word for word in of_words if not word[0].isalpha() or word in _FIGURE_WORDS)


def _plain(word: str) -> str:
    if "." in word:
        return word.rstrip("0").rstrip(".")
    return _SPELT.get(word, word)
