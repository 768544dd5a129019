"""Reads numbers in prose, with the units, scales and signs that sentences give them."""

import re

from drsft.verify.maths.units import is_unit

__all__ = ["COUNTS", "LABELS", "NEGATIVE", "NUMBER", "inequality_in_words", "labels_in_words", "with_unit"]

NUMBER = re.compile(
    r"(?<![\w.^])(?<!\^[-−{])(?<!\^\{[-−])"
    r"(?:[-−](?=[$€£\d.])|(?:(?<=is )|(?<=was )|(?<== ))[-−]\s(?=\d))?[$€£]?\s?"
    r"(?:\d+,\d\d(?=\s?€)|\d+(?::\s?\d+)+(?:\s?[AaPp]\.?[Mm]\b\.?)?|\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d+|(?:\s?[x×*·]\s?|\s)10\s?\^\s?\{?[-+−]?\d+\}?)?"
    r"(?:\s?/\s?\d+(?:\.\d+)?(?!\s*=))?\s?%?"
    r"|(?<=[^\x00-\x7f])-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?%?"
)

_UNIT_WORD = (
    r"(?:square\s|cubic\s)?(?:thousand|million|billion|trillion|percent|hours?|minutes?|seconds?|days?|weeks?|km/h(?:our)?|mph|m/s(?:\^2)?"
    r"|h|hrs?|mins?|s|secs?|g|lbs?|oz|yd"
    r"|(?:centi|kilo|milli)?met(?:er|re)s?|(?:kilo|milli)?grams?|(?:milli)?lit(?:er|re)s?|feet|foot|inch(?:es)?|miles?"
    r"|(?:sq\.?\s|square\s)?(?:km|cm|mm|m|ft)(?:\^\{?[23]\}?|²|³)?|kg|mL|ml|ounces?|pounds|dollars?|cents?|years?|months?)(?![A-Za-z])"
)

_COUNTED = r"\$?\d[\d,.]*\s[a-z]+(?:\s[a-z]+){0,2}"

_SEPARATOR = r"(?:[,;]\s*(?:and\s)?|\sand\s)"

COUNTS = re.compile(rf"{_COUNTED}(?:{_SEPARATOR}{_COUNTED})*")

# "cats: 4, dogs: 11", "width = 4 and length = 10"; "Ann has 9 and Ben has 5" says the same in words.
_LABEL = r"[A-Za-z]{2,}(?:\s[A-Za-z]+){0,2}"
_LABELLED = rf"{_LABEL}\s?[:=]\s?\$?[-−]?\d[\d,.]*(?<=\d)(?:\s[a-z]+)?"
LABELS = re.compile(rf"{_LABELLED}(?:{_SEPARATOR}{_LABELLED})+")
_OWNED = (
    r"(?:[Tt]he\s)?([A-Za-z]+)\s(?:has|have|is|gets?|got|was|are|costs?|weighs)\s"
    r"(\$?[-−]?\d[\d,.]*(?<=\d)(?:\s[a-z]+)?)"
)
_EACH_OWNED = re.compile(rf"{_OWNED}(?:,?\s(?:and|while)\s){_OWNED}\W*$")

_HOURS_AND_MINUTES = r"\s?(?<![\w.,])\d+\s?h\s?\d{1,2}\s?m(?:in)?(?![A-Za-z])"
_FEET_AND_INCHES = r"(?<![\d.,'′])\d{1,3}\s?['’′]\s?\d{1,2}(?:\.\d+)?\s?(?:''|′′|[\"”″])"
_QUANTITY = re.compile(
    rf"{_HOURS_AND_MINUTES}|(?<!\d)(?<!\d[.,])(?:(?<![\d)\w])[-−])?\$?\s?\d[\d,]*+(?:\.\d+)?\s?{_UNIT_WORD}(?:(?:,?\s(?:and\s)?)\d[\d,]*(?:\.\d+)?\s?{_UNIT_WORD})*"
    r"(?:(?<=ft)\s\d+(?:\.\d+)?\s?in\b)?"
    rf"|{_FEET_AND_INCHES}"
)

_LETTERS = r"[A-Za-zµμΩ°Å]+"
_POWER = r"(?:\^?\{?-?\d\}?|[²³])?"
_SYMBOL = re.compile(rf"\s?[·*]?\s?({_LETTERS}){_POWER}(?![A-Za-z])")
_RATE = re.compile(
    rf"(?:\s?/\s?{_LETTERS}{_POWER}|\s?/\s?\([^()\n]{{1,20}}\)|\sper\s(?:square\s|cubic\s)?{_LETTERS}"
    r"|\san?\s(?:second|minute|hour|day|night|week|month|year|piece|person|pound))(?![A-Za-z])"
)
_TIMES = re.compile(r"(?<=\d)\s?[x×*·]\s?10(?=\s?\^)")
_AN = re.compile(r"\san?\s")
_WORDS_TOO = frozenset({"A", "in", "u"})  # more often words than units
_VARIABLE = re.compile(r"[a-z](?![\w'])")  # 24x is not 24
_PLURAL = re.compile(
    r"\s(?!(?:in|and|or|of|for|to|at|on|with|from|is|are|was|as|more|less|fewer|than|by|per|each|because|so|degrees)\s)"
    r"(?:[A-Za-z]+\s(?!(?:in|and|or|of|for|to|at|on|with|from|is|are|was|as|than|by|per|because|so)\b))?"
    r"([A-Za-z]{2,}[^s\W\d_]s|people|children|women|men|fish)\b"
)
_NO_PLURALS = frozenset(
    ("this", "degrees", "plus", "minus", "times", "always", "perhaps", "across", "besides", "towards", "yes")
)

_INEQUALITY = re.compile(
    r"\$?\b([a-z])\$?\s+(?:(?:is|must be|has to be)\s+)?(?:(greater|more|larger|less|smaller)\s+than\s+"
    r"(or\s+equal\s+to\s+)?|(at\s+(?:least|most)\s+))\$?(negative\s+|[-−])?(\d+(?:\.\d+)?)"
)

NEGATIVE = re.compile(r"\b(?:negative|minus)\s+(?=\d)")


def inequality_in_words(statement: str) -> str | None:
    """Returns an inequality in signs: "x is greater than or equal to negative 2" becomes x >= -2; None for
    others.
    """
    matches = list(_INEQUALITY.finditer(statement))
    if not matches:
        return None
    match = matches[-1]
    is_above = match[2] in ("greater", "more", "larger") or (match[4] or "").endswith("least ")
    sign = (">" if is_above else "<") + ("=" if match[3] or match[4] else "")
    return f"{match[1]} {sign} {'-' if match[5] else ''}{match[6]}"


def labels_in_words(sentence: str) -> str | None:
    """Returns named values as a list: "Ann has 9 and Ben has 5" becomes "Ann: 9, Ben: 5"; None for others."""
    owned = _EACH_OWNED.search(sentence)
    return None if owned is None else f"{owned[1]}: {owned[2]}, {owned[3]}: {owned[4]}"


def with_unit(sentence: str, number: "re.Match[str]") -> str:
    """Returns a number in prose with its unit, scale or rate, a larger unit before it, or the noun that it
    counts.
    """
    start, end = number.start(), number.start() + len(number.group().rstrip())
    for quantity in _QUANTITY.finditer(sentence):
        if quantity.start() <= end - 1 < quantity.end() and number.group().strip() in quantity.group():
            start, end = quantity.span()
            break
    end = _end_of_unit(sentence, end)
    is_amount = end > number.end() or number.group().startswith(("$", "€", "£"))
    rate = _RATE.match(sentence, end) if is_amount else None
    amount = _TIMES.sub(" × 10", sentence[start:end].strip())
    return amount + ("" if rate is None else _AN.sub(" per ", rate.group()))


def _end_of_unit(sentence: str, position: int) -> int:
    """Returns where the unit's symbol, or the counted noun, at `position` ends.

    Returns `position` if there is none.
    """
    end = position
    while (symbol := _SYMBOL.match(sentence, end)) and is_unit(symbol[1]) and symbol[1] not in _WORDS_TOO:
        end = symbol.end()
    if end > position:
        return end
    if (variable := _VARIABLE.match(sentence, position)) is not None:
        return variable.end()
    counted = _PLURAL.match(sentence, position)
    return position if counted is None or counted[1] in _NO_PLURALS else counted.end()
