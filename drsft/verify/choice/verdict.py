"""Judges a choice: reference and answer are letters, or an option's text."""

import re

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.choice.chosen import chosen_letters
from drsft.verify.choice.offered import Letters, letters_of, options_of
from drsft.verify.options import VerifyOptions

__all__ = ["judge_choice", "judge_letter"]

LETTERS = "ABCDEFGHIJ"  # that ask for a choice in mathematics, too; others only where they are offered
_LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*\(?\s*([A-Z])\s*\)?\s*\}?")

_ASKS_FOR_WRONG = re.compile(
    r"\b(?:incorrect|not\b|false|wrong|except)|错误|不正确|不符合|不属于", re.IGNORECASE
)


def judge_choice(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT if the letters that a text chooses are exactly the reference's, else WRONG.

    The verdict is NO_ANSWER if the text chooses none. It is UNJUDGED if the reference is neither a letter nor
    the text of an option; a letter that the question does not offer still counts as a letter.
    """
    offered = options_of(case.question)
    expected = letters_of(case.reference, offered) or letters_of(case.reference, {})
    if expected is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="the reference is not an option")
    letters = chosen_letters(case.text, offered, asks_for_wrong=bool(_ASKS_FOR_WRONG.search(case.question)))
    if letters is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no option chosen")
    return _verdict(letters, expected)


def judge_letter(reference: str, case: Case) -> Verdict | None:
    """Judges a mathematical case as a choice if its reference is one capital letter.

    Returns None for any other reference, or if the text chooses no letter: the letter may be a variable then.
    """
    offered = options_of(case.question)
    letter = _LETTER.fullmatch(reference)
    if letter is None or not (letter[1] in offered or letter[1] in LETTERS):
        return None
    letters = chosen_letters(case.text, offered)
    return None if letters is None else _verdict(letters, frozenset(letter[1]))


def _verdict(letters: Letters, expected: Letters) -> Verdict:
    outcome = Outcome.CORRECT if letters == expected else Outcome.WRONG
    return Verdict(outcome=outcome, reason="choice", answer=", ".join(sorted(letters)))
