"""Finds where a solution first states its answer, in characters and in tokens.

The text before that place must lead to the answer; the text after it can only repeat it.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from drsft.verify.plain_number import plain_number

__all__ = ["first_statement", "token_range"]

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
_BEFORE_A_RESULT = re.compile(r"(?:=|≈|\b(?:is|are|be|was|gives|leaves|makes|equals)|\\boxed\{)\s*\\?\$?\s*$")


def first_statement(text: str, answer: str, question: str) -> slice | None:
    """Returns the range of characters in `text` that first states `answer`; None if no place does.

    A number counts by its value, so 1,200 states 1200. An answer that occurs in the question counts as stated
    where it is first given as a result, after an equals sign or a verb. If it never is, its last occurrence
    counts: earlier ones repeat the question.
    """
    places = _places(text, answer)
    if not places:
        return None
    if _places(question, answer):
        results = [one for one in places if _BEFORE_A_RESULT.search(text[: one.start])]
        return (results or places[-1:])[0]
    return places[0]


def _places(text: str, answer: str) -> list[slice]:
    wanted = _value(answer)
    if wanted is not None:
        return [
            slice(found.start(), found.start() + len(found[0].rstrip(",")))
            for found in _NUMBER.finditer(text)
            if _value(found[0].rstrip(",")) == wanted
        ]
    stripped = answer.strip()
    if not stripped:
        return []
    before = r"(?<!\w)" if re.match(r"\w", stripped) else ""
    after = r"(?!\w)" if re.search(r"\w$", stripped) else ""
    pattern = before + r"\s+".join(map(re.escape, stripped.split())) + after
    return [slice(found.start(), found.end()) for found in re.finditer(pattern, text)]


def _value(number: str) -> Fraction | None:
    """Returns the size of a plain decimal, without sign, currency or thousands' commas."""
    return plain_number(number.strip().lstrip("-+\\$"))


def token_range(token_ids: Sequence[int], characters: slice, decode: Callable[[Sequence[int]], str]) -> range:
    """Returns the indices of the tokens that contain the given characters of `decode(token_ids)`."""

    def first_longer_than(num_characters: int) -> int:
        """Returns the first token after which the text is longer than `num_characters`."""
        low, high = 0, len(token_ids) - 1
        while low < high:
            middle = (low + high) // 2
            if len(decode(token_ids[: middle + 1])) > num_characters:
                high = middle
            else:
                low = middle + 1
        return low

    return range(first_longer_than(characters.start), first_longer_than(characters.stop - 1) + 1)
