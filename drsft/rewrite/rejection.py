"""Why a sample is not kept although its answer may be right: it would teach something that nobody wants.

A refusal is no verdict: the verifier's finding stands beside it in the record.
"""

import re
from collections.abc import Sequence

from drsft.config import Refusals
from drsft.rewrite.leakage import leaked_phrase
from drsft.verify.maths.find import boxes

__all__ = ["different_boxes", "has_loop", "refusal_of"]

_BOX = re.compile(r"\\boxed\s*\{")


def refusal_of(
    text: str, token_ids: Sequence[int], refusals: Refusals, *, question: str, is_guided: bool
) -> str | None:
    """The first reason against keeping a sample, or None. `is_guided`: a solution stood in its prompt."""
    if not text.strip():
        return "empty"
    if refusals.loop_repeats and has_loop(token_ids, refusals.loop_ngram_tokens, refusals.loop_repeats):
        return "loops"
    if refusals.leakage and is_guided and (phrase := leaked_phrase(text, question)):
        return f"mentions its guide: {phrase}"
    return None


def has_loop(token_ids: Sequence[int], ngram_tokens: int, repeats: int) -> bool:
    """Some n-gram occurs `repeats` times without overlapping itself."""
    counts: dict[tuple[int, ...], int] = {}
    free_from: dict[tuple[int, ...], int] = {}
    for start in range(len(token_ids) - ngram_tokens + 1):
        ngram = tuple(token_ids[start : start + ngram_tokens])
        if start >= free_from.get(ngram, 0):
            counts[ngram] = counts.get(ngram, 0) + 1
            free_from[ngram] = start + ngram_tokens
            if counts[ngram] >= repeats:
                return True
    return False


def different_boxes(text: str) -> tuple[str, ...]:
    """What stands in boxes that may contradict each other; nothing where they read the same.

    `\\boxed{1} and \\boxed{2}` side by side are one answer.
    """
    contents = dict.fromkeys(filter(None, (_content(text, box.end()) for box in _BOX.finditer(text))))
    return tuple(contents) if len(contents) > 1 and boxes(text)[0] != ", ".join(contents) else ()


def _content(text: str, start: int) -> str | None:
    """What stands between the brace before `start` and its partner."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start:i].strip()
    return None
