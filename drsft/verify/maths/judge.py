"""Judges a mathematical answer: finds it, reads it, compares it.

The symbolic step only if that cannot decide.
"""

import re
from functools import lru_cache

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.choice.chosen import chosen_letters
from drsft.verify.choice.offered import options_of
from drsft.verify.extraction.announced import announced_text
from drsft.verify.extraction.order import find_answer
from drsft.verify.maths.answer import words_of
from drsft.verify.maths.same import same_math
from drsft.verify.options import VerifyOptions

__all__ = ["judge_math", "reference_answer"]

LETTERS = "ABCDEFGHIJ"
_LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*\(?\s*([A-Z])\s*\)?\s*\}?")
_ANNOUNCED = re.compile(
    r"(?:the\s+|final\s+)*(?:solution|answer)s?\s*(?:is|are)?\s*:\s*([^\n]+)$", re.IGNORECASE
)
_LAST_LINE = re.compile(r"(?:^|\n)[ \t]*A(?:ns(?:wer)?)?:[ \t]*([^\n]+)\s*$")
_LAST_SENTENCE = re.compile(  # of a solution; an answer that begins so is no solution
    r"[.!?]\s+(?:[a-z]+,?\s+){0,3}answer\s*(?:is\s*:?|:)\s[^\n]{1,80}$", re.IGNORECASE
)
NO_ANSWERS = ("n/a", "na", "nan", "none", "null", "unknown", "tbd")  # how tables spell that there is none


def judge_math(case: Case, options: VerifyOptions) -> Verdict:
    """Returns the verdict on a solution's text.

    It is UNJUDGED if neither reading nor the symbolic step decides.
    """
    reference = reference_answer(case.reference)
    offered = options_of(case.question)
    if reference is not None and (letters := _asked_letters(reference, offered)) is not None:
        chosen = _judge_letters(case, letters, offered)
        if chosen is not None:
            return chosen
    found = find_answer(case.text, is_box_required=options.require_box)
    if reference is not None and _repeats(reference, case.text):
        return Verdict(outcome=Outcome.CORRECT, reason="identical", answer=reference)
    if found is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no answer found")
    if reference is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="no parsable reference", answer=found.text)
    outcome, reason = same_math(reference, found.text)
    if outcome is not Outcome.CORRECT and _repeats(reference, announced_text(case.text)):
        return Verdict(outcome=Outcome.CORRECT, reason="identical", answer=reference)
    return Verdict(outcome=outcome, reason=reason, answer=found.text)


def _repeats(reference: str, announced: str) -> bool:
    """Returns whether the announced text contains the reference word for word."""
    first, second = ("".join(text.split()).rstrip(".") for text in (announced, reference))
    return bool(first) and (
        first == second or (words_of(reference) != "" and first.lower() == second.lower())
    )


def _asked_letters(reference: str, offered: dict[str, str]) -> frozenset[str] | None:
    """Returns the letters of a reference that is a choice; letters beyond J only if options are offered."""
    letter = _LETTER.fullmatch(reference)
    if letter is None or not (letter[1] in offered or letter[1] in LETTERS):
        return None
    return frozenset(letter[1])


def _judge_letters(case: Case, expected: frozenset[str], offered: dict[str, str]) -> Verdict | None:
    """Judges a choice; None if the text chooses no letter, as its answer may be an expression."""
    letters = chosen_letters(case.text, offered)
    if letters is None:
        return None
    outcome = Outcome.CORRECT if letters == expected else Outcome.WRONG
    return Verdict(outcome=outcome, reason="choice", answer=", ".join(sorted(letters)))


@lru_cache(maxsize=4096)
def reference_answer(reference: str) -> str | None:
    """Returns the answer of a reference, which is an answer itself or a solution that marks its answer."""
    reference = reference.strip()
    if any(mark in reference for mark in ("boxed", "fbox", "####")) or _LAST_SENTENCE.search(reference):
        found = find_answer(reference)
        reference = found.text if found else ""
    elif (announced := _ANNOUNCED.match(reference) or _LAST_LINE.search(reference)) is not None:
        reference = announced[1]
    is_said = any(character.isalnum() for character in reference) or bool(set("\\<>=") & set(reference))
    return reference if is_said and reference.lower() not in NO_ANSWERS else None
