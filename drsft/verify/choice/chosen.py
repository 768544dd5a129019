"""Finds the letters that a text chooses, in this order of trust:

1. a formal statement (box, tag, field, mark) that names letters. If the text also announces letters, a box
   counts only if it holds letters alone and no announcement follows it. A mark ("A: …") counts only if the
   text does not discuss the options;
2. the last announcement ("the answer is (C)", 故选C), or "C is correct" where none is announced;
3. options discussed one by one, of which one is called right;
4. letters alone, a text that opens with its letter, a lower-case letter at the end;
5. the option whose text or value is the answer, or the only one that the last sentence names;
6. the letter with which the last sentence concludes ("which leaves C").

A letter that a sentence rejects ("Choice (A) is incorrect") is not chosen, the article "a" is not a letter,
and "B or D" means both, which is wrong if one is asked for.
"""

import re

from drsft.verify.choice.claims import (
    announced_letters,
    is_discussion,
    is_rejected,
    left_letters,
    right_by_option,
    without_rejected,
)
from drsft.verify.choice.offered import LIST, Letters, letters_of, named_in
from drsft.verify.extraction.formal import boxes
from drsft.verify.extraction.order import find_answers
from drsft.verify.extraction.sentences import is_refusal, last_sentence
from drsft.verify.extraction.statement import FORMAL, Place, Statement

__all__ = ["chosen_letters"]

_LEADING = re.compile(
    r"(?:Choice|Option)?[\s*_(（\[]*([A-Z])[)）\]*_]*(?:[.:。、．)!]|,(?!\s*[A-Z]\b)|\s*[-–—]\s|不|\s*$|\s*\n)"
)
_SMALL = re.compile(
    r"(?:answer|option|choice|ans)\W{0,4}(?:(?:is|be|should be)\b\W*)?(?:option\W*)?([a-z])\W*$"
    r"|[\s=.]([a-z])\s?\)\s*$|\b(?:hence|so|thus|therefore)\s*,?\s*([a-e])\W*$"
    r"|[,.]\s*([a-e])\s+is\s+the\s+(?:correct\s+)?(?:answer|option|choice)\W*$",
    re.IGNORECASE,
)
_FONT_LETTER = re.compile(
    r"\$?\\(?:text|textbf|mathrm|mathbf|textit)\s*\{\s*\(?([A-Z])\)?\s*\}\s*\$?(?!\s*[-+*/^=_({\\])"
)
_SECTION_END = re.compile(r"<eo[a-z]>")


def chosen_letters(text: str, offered: dict[str, str], *, asks_for_wrong: bool = False) -> Letters | None:
    """Returns the letters that the text chooses; None if it chooses none.

    `offered` are the question's options by letter; with `asks_for_wrong`, it asks for the wrong one.
    """
    text = _FONT_LETTER.sub(r"(\1)", _SECTION_END.sub("\n", text))
    if is_refusal(last_sentence(text)):
        return None
    announced = announced_letters(text, frozenset(offered), asks_for_wrong=asks_for_wrong)
    for found in find_answers(text):
        if found.place not in FORMAL:
            break
        letters = letters_of(found.text, offered)
        if letters is not None and not (announced and _is_overridden(found, text)):
            return letters
    return (
        announced
        or right_by_option(text, asks_for_wrong=asks_for_wrong)
        or _alone(text, offered)
        or without_rejected(_by_text(text, offered), text)
        or left_letters(text)
    )


def _is_overridden(found: Statement, text: str) -> bool:
    """Returns whether an announcement counts more than a formal statement that names letters.

    "A: ..." among other options is no mark of the answer.
    """
    if found.place is Place.MARK:
        return is_discussion(text)
    return found.place is Place.BOX and not _is_last_letter(found.text, text)


def _is_last_letter(box: str, text: str) -> bool:
    """Returns whether a text's last box holds letters alone and no announcement follows it."""
    rest = text[boxes(text)[1] :]
    return bool(LIST.fullmatch(box)) and not announced_letters(rest, frozenset(), asks_for_wrong=False)


def _alone(text: str, offered: dict[str, str]) -> Letters | None:
    """Returns letters that are the whole text, or are separate from a sentence at its start or end."""
    bare = text.strip().removeprefix("Both ")
    if LIST.fullmatch(bare.rstrip(".。")) and (letters := letters_of(bare, offered)) is not None:
        return letters
    leading = _LEADING.match(bare)
    is_offered = leading is not None and not is_discussion(bare) and (not offered or leading[1] in offered)
    if leading is not None and is_offered and not is_rejected(bare, leading.end(1)):
        return frozenset(leading[1])
    small = _SMALL.search(text.rstrip())
    return None if small is None else frozenset(next(filter(None, small.groups())).upper())


def _by_text(text: str, offered: dict[str, str]) -> Letters | None:
    if not offered:
        return None
    is_discussed = is_discussion(text)
    is_formal = False
    for found in find_answers(text):
        is_formal |= found.place in FORMAL
        if is_formal and found.place is Place.CONCLUSION:
            return None  # the number of a box of which no option has the unit
        if is_discussed and found.place not in (*FORMAL, Place.PHRASE):
            return None
        if (letters := letters_of(found.text, offered)) is not None:
            return letters
        if found.place is Place.PHRASE and (letters := named_in(found.text, offered)) is not None:
            return letters
    return named_in(last_sentence(text), offered)
