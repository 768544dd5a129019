"""Finds the answer that a text announces: "the answer is ...", in about twenty languages."""

import re

from drsft.verify.extraction.concluded import concluded
from drsft.verify.extraction.quantities import NUMBER
from drsft.verify.extraction.rejections import is_supposed
from drsft.verify.extraction.sentences import MATH, first_sentence
from drsft.verify.extraction.stated import value_of
from drsft.verify.extraction.statement import TAIL_CHARS, Place, Statement

__all__ = ["announced", "announced_text"]

_VERB = r"(?:(?:\b(?:is|are|was|est|es|ist|lautet|é|è|ni|to)|คือ|హ)(?![a-zé])|[为是は은는])"

_NOUN = (
    r"(?:\b(?:in\s+short(?=:)|final\s+answers?|answers?|solution\s+is|ans\b|r[ée]ponse|respuesta|antwort|antwoord|resposta|risposta"
    r"|cevap|jibu|odpowied[zź]|đáp\s+án)|ответ|正确的?(?:命题|结论|说法|选项)?的?(?:序号)?(?=[是为][①-⑳(（])|答案|最终答案|答え|答|정답|उत्तर|উত্তর|الجواب|الإجابة|సమాధానం|คำตอบ)"
)

_PHRASE = re.compile(
    rf"{_NOUN}(?:\s+(?:finale?|definitiva)\b)?[\s*_]*(?:\s?\([^()\n]{{1,40}}\)[\s*_]*)?(?:\s(?:to|of|for)\s[^.\n]{{0,80}}?(?=\s(?:is|are)\b|:))?"
    rf"\s*(?:(?P<verb>{_VERB}[\s*_:：]*)|(?P<colon>[:：=】\]][\s*_:：]*|[-–—]\s)|(?=\$|\\\())",
    re.IGNORECASE,
)

_SHORT_MARKER = re.compile(r"^[ \t]*(?:A|Ans|Ответ|R)\s*:[ \t]*([^\n]+)$", re.MULTILINE)

_HEADING = re.compile(
    r"^#+[ \t]*(?:final[ \t]+)?answer[ \t]*:?[ \t]*\n+[ \t]*([^\n]{1,200})", re.MULTILINE | re.I
)

_REJECTED = re.compile(
    r"[\s*]*(?:not\b|n['’]t\b|neither\b|wrong\b|incorrect\b|correct\b|right\b|as\s+follows|不是|nicht\b|pas\b)",
    re.IGNORECASE,
)

_CALLED_WRONG = re.compile(r"\S+\s+(?:is|was|would be)\s+(?:wrong|incorrect|false|not)\b")  # "64 is wrong"

_ELABORATES = re.compile(
    r"\b(?:longer|long|detailed|full)\s+$", re.IGNORECASE
)  # "Long answer: multiply 8 by 8"

_QUOTES = re.compile(r"^(?:\\?[\"'`“])+")

_OPENING = ("let", "we", "first", "okay", "ok", "sure")  # "Answer: Let me see."

_STEPWISE = re.compile(r"(?:step|schritt|étape|paso|passo|шаг|步骤)[^.:\n]{0,15}$", re.IGNORECASE)


def announced(text: str, *, is_second_word: bool = False) -> Statement | None:
    """Returns the answer that a text announces last, as in "the answer is 5"; None if it announces none.

    `is_second_word` says that the text follows a box: then an "Answer:" inside a line does not count.
    """
    short = _SHORT_MARKER.findall(text)
    if short:
        return Statement.of(short[-1].strip(), Place.MARK)
    if headings := _HEADING.findall(text):
        return Statement.of(value_of(headings[-1]), Place.PHRASE)
    for phrase in reversed(list(_PHRASE.finditer(text))):
        announced = _QUOTES.sub("", text[phrase.end() :].strip())
        if not announced or _REJECTED.match(announced):
            continue
        line_start = text[text.rfind("\n", 0, phrase.start()) + 1 : phrase.start()]
        is_elaboration = phrase["verb"] is None and _ELABORATES.search(line_start) is not None
        if is_elaboration or is_supposed(text[: phrase.start()]):
            continue
        if is_second_word and phrase["verb"] is None and re.search(r"\w", line_start):
            continue
        statement = first_sentence(announced)
        if announced[len(statement) :].startswith(("?", "？")) or _CALLED_WRONG.match(statement):
            continue
        is_stepwise = _STEPWISE.search(text[: phrase.start()]) is not None
        if phrase["verb"] is None and (is_stepwise or _is_heading(statement, announced)):
            return concluded(announced)
        return Statement.of(value_of(statement), Place.PHRASE)
    return None


def announced_text(text: str) -> str:
    """Returns everything after the last announcement, up to the end of its paragraph; "" if there is none."""
    phrases = list(_PHRASE.finditer(text[-TAIL_CHARS:]))
    return text[-TAIL_CHARS:][phrases[-1].end() :].split("\n\n")[0].strip() if phrases else ""


def _is_heading(statement: str, announced: str) -> bool:
    """Returns whether an announcement is a heading of what follows: "Answer: A crate holds 6 jars and there
    are 7."
    """
    words = re.findall(r"[^\W\d_]{2,}", MATH.sub("", statement))
    is_sentence = len(words) >= 4 or (len(words) > 1 and words[0].lower() in _OPENING)
    rest = announced[len(statement) :].split("\n\n")[0]
    return is_sentence and bool(NUMBER.search(rest))
