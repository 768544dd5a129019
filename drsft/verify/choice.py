"""Multiple choice: which letter a solution settles on, told by its letter or by its option's text."""

import re

from drsft.records import Outcome, Verdict
from drsft.verify.maths.find import boxes
from drsft.verify.options import VerifyOptions
from drsft.verify.wire import Case

__all__ = ["chosen_letter", "judge_choice", "options_of"]

_LETTER = r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*)?\(?\s*([A-J])\s*\)?\s*\}?"
_IS_LETTER = re.compile(_LETTER + r"(?:[).:,]|\s*$|\s*\\)", re.DOTALL)
_STATED = re.compile(
    r"(?:answer|option|choice|correct\s+(?:answer|option|choice)|réponse|antwort|respuesta|答案|选项?|####)"
    r"[\s*]*(?:is|are|:|=|est|es|ist|为|是|：)?[\s*:$]*(?:option|choice)?\s*" + _LETTER + r"(?![a-z'’])",
    re.IGNORECASE,
)
_LEADING = re.compile(r"\s*\(?([A-J])(?:[).:。、]|不|\s*$)")
_LAST_IN_PROSE = re.compile(
    r"(?:\bit'?s|\bis|\bchoose|\bpick|\bselect|\bhence|\bthus|\btherefore|:)\s*\(?([A-J])\)?(?=[\s.,;!*]|$)"
)
_OPTION = re.compile(r"(?:^|\n)\s*[(\[]?([A-J])[)\].:]\s*([^\n]+)")
_INLINE_OPTION = re.compile(r"\(([A-J])\)\s*(.*?)(?=\s*\([A-J]\)|$)", re.DOTALL)


def judge_choice(case: Case, options: VerifyOptions) -> Verdict:
    """The reference is a letter, or an option's text; so is the answer."""
    offered = options_of(case.question)
    expected = _letter_of(case.reference, offered)
    if expected is None:
        return Verdict(outcome=Outcome.UNJUDGED, reason="reference is no option")
    letter = chosen_letter(case.text, offered)
    if letter is None:
        return Verdict(outcome=Outcome.NO_ANSWER, reason="no option chosen")
    outcome = Outcome.CORRECT if letter == expected else Outcome.WRONG
    return Verdict(outcome=outcome, reason="choice", answer=letter)


def options_of(question: str) -> dict[str, str]:
    """The options that a question lists, by letter; one a line, or inline as (A) ... (B) ..."""
    listed = _OPTION.findall(question)
    if len(listed) < 2:
        listed = _INLINE_OPTION.findall(question)
    return {letter: text.strip() for letter, text in listed}


def chosen_letter(text: str, offered: dict[str, str]) -> str | None:
    """Box first, then "the answer is (C)", a leading "D.", an option's text, the last letter in prose."""
    box, _ = boxes(text)
    if box:
        return _letter_of(box, offered)
    stated = _STATED.findall(text)
    if stated:
        return str(stated[-1]).upper()
    bare = text.strip()
    leading = _LEADING.match(bare)
    if leading is not None:
        return leading[1]
    for line in (bare, bare.rsplit("\n", 1)[-1]):
        by_text = _letter_of(line, offered) if len(line) < 500 else None
        if by_text is not None:
            return by_text
    prose = _LAST_IN_PROSE.findall(text)
    return str(prose[-1]) if prose else None


def _letter_of(answer: str, offered: dict[str, str]) -> str | None:
    answer = answer.strip().strip("$").strip()
    match = _IS_LETTER.match(answer + " ")
    if match is not None and (not offered or match[1] in offered):
        return match[1]
    wanted = _plain(answer)
    same = [letter for letter, text in offered.items() if _plain(text) == wanted]
    return same[0] if len(same) == 1 else None


def _plain(text: str) -> str:
    text = re.sub(r"\\(?:text|textbf|mathrm)\s*\{([^{}]*)\}", r"\1", text)
    return re.sub(r"[\s$.,;]+", " ", text).strip().lower()
