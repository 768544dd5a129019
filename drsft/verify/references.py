"""Finds the answer of a reference, and whether any text could be CORRECT; problems are loaded only if so."""

import re
from dataclasses import dataclass

from drsft.verify.choice.offered import letters_of, options_of
from drsft.verify.code.program import parse_tests
from drsft.verify.extraction.order import find_answer
from drsft.verify.extraction.reference_answer import reference_answer
from drsft.verify.literal import is_pattern
from drsft.verify.maths.answer import readings_of
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.same import MAX_CHARS, same_when_parsed
from drsft.verify.maths.syntax import Words
from drsft.verify.numeric import is_numeric
from drsft.verify.words import is_prose

__all__ = ["Unmeetable", "parse_reference", "unmeetable"]

MAX_WORDS = 12  # of a reference in words; nobody repeats a longer sentence word for word
_PLAIN = re.compile(r"-?\d{1,300}(?:\.\d{1,300})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeetable:
    """The reason why no answer could be CORRECT for a reference, and a kind that could judge by it."""

    reason: str
    proposed_kind: str | None = None


def parse_reference(reference: str, kind: str) -> str | None:
    """Returns the answer that a reference states; None if the verifier of `kind` could not judge by it.

    Custom verifiers and models that judge need any reference that is not empty, kind `steps` needs none.
    """
    reference = reference.strip()
    match kind:
        case "math" | "math+steps":
            return reference_answer(reference)
        case "numeric":
            is_readable = is_numeric(reference)
        case "regex":
            is_readable = bool(reference) and is_pattern(reference)
        case "code":
            is_readable = parse_tests(reference) is not None
        case "steps":
            return reference  # it asks for none
        case _:
            is_readable = bool(reference)
    return reference if is_readable else None


def unmeetable(question: str, reference: str, kind: str) -> Unmeetable | None:
    """Returns why no answer could be CORRECT for a reference from `parse_reference`; None if one can.

    It judges the reference as an answer, in a box and as "The answer is ...". It uses neither symbolic
    algebra nor a worker process; its time is linear.
    """
    if _PLAIN.fullmatch(reference):
        return None
    if kind in ("math", "math+steps"):
        return _unmet_maths(reference)
    if kind == "choice" and letters_of(reference, options_of(question)) is None:
        if letters_of(reference, {}) is not None:
            return None
        return Unmeetable(
            reason="it is neither a letter nor an option of the question", proposed_kind="exact"
        )
    return None


def _unmet_maths(reference: str) -> Unmeetable | None:
    if len(reference) > MAX_CHARS:
        return Unmeetable(reason=f"it is longer than {MAX_CHARS} characters", proposed_kind="judge")
    cleaned = clean(reference)
    readings = readings_of(cleaned)
    is_sentence = isinstance(readings[0], Words) if readings else is_prose(cleaned)
    if is_sentence and len(cleaned.split()) > MAX_WORDS:
        return Unmeetable(reason="it is prose that states no answer", proposed_kind="judge")
    for text in (rf"\boxed{{{reference}}}", f"The answer is {reference}."):
        found = find_answer(text)
        if found is not None and (found.text == reference or same_when_parsed(reference, found.text)):
            return None
    return Unmeetable(reason="a solution that states it is not judged CORRECT", proposed_kind="exact")
