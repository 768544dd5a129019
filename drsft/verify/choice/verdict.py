"""Judges a choice: reference and answer are letters, or an option's text."""

import re

from drsft.records import Outcome, Verdict
from drsft.verify.case import Case
from drsft.verify.choice.chosen import chosen_letters
from drsft.verify.choice.offered import letters_of, options_of
from drsft.verify.options import VerifyOptions

__all__ = ["judge_choice"]

_ASKS_FOR_WRONG = re.compile(
    r"\b(?:incorrect|not\b|false|wrong|except)|错误|不正确|不符合|不属于", re.IGNORECASE
)


def judge_choice(case: Case, options: VerifyOptions) -> Verdict:
    """Returns CORRECT if the letters that a text chooses are exactly the reference's."""
    offered = options_of(case.question)
    expected = letters_of(case.reference, offered) or letters_of(case.reference, {})
    if expected is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="reference is no option")
    letters = chosen_letters(case.text, offered, asks_for_wrong=bool(_ASKS_FOR_WRONG.search(case.question)))
    if letters is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no option chosen")
    outcome = Outcome.CORRECT if letters == expected else Outcome.WRONG
    return Verdict(outcome=outcome, reason="choice", answer=", ".join(sorted(letters)))
