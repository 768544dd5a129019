"""Reasons to reject a sample although its answer is right: training on it would teach a bad habit.

A rejection does not change the verdict: the record stores both.
"""

import re
from collections.abc import Sequence

from drsft.config import Rejections
from drsft.records import Completion, Rejection, RejectionKind
from drsft.rewrite.leakage import leaked_phrase
from drsft.verify.extraction.formal import boxes

__all__ = ["different_boxes", "has_loop", "rejection_of"]

_BOX = re.compile(r"\\boxed\s*\{")


def rejection_of(
    completion: Completion, settings: Rejections, *, question: str, sees_guide: bool
) -> Rejection | None:
    """Returns the first reason to reject a sample by its text alone; None if there is none.

    `sees_guide` is true if the sample's prompt showed a solution. A repeated run of tokens (a loop) counts in
    the thought and in the answer.
    """
    text, token_ids, thought = completion.text, completion.token_ids, completion.thought
    if not text.strip():
        return Rejection(RejectionKind.EMPTY)
    if settings.loop_repeats and has_loop(token_ids, settings.loop_ngram_tokens, settings.loop_repeats):
        return Rejection(RejectionKind.LOOPS)
    if settings.leakage and sees_guide and (phrase := leaked_phrase(text, question)):
        return Rejection(RejectionKind.MENTIONS_GUIDE, phrase)
    if thought is None or not (settings.leakage_in_thoughts and sees_guide):
        return None
    phrase = leaked_phrase(thought.text, question)
    return None if phrase is None else Rejection(RejectionKind.THOUGHT_MENTIONS_GUIDE, phrase)


def has_loop(token_ids: Sequence[int], ngram_tokens: int, repeats: int) -> bool:
    """Returns whether some sequence of `ngram_tokens` tokens occurs `repeats` times without overlap."""
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
    """Returns the contents of a text's boxes if they may contradict each other; () if all have the same
    value.

    `\\boxed{1} and \\boxed{2}` side by side are one answer.
    """
    contents = dict.fromkeys(filter(None, (_content(text, box.end()) for box in _BOX.finditer(text))))
    return tuple(contents) if len(contents) > 1 and boxes(text)[0] != ", ".join(contents) else ()


def _content(text: str, start: int) -> str | None:
    """Returns the text between the brace before `start` and the brace that closes it; None if none does."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start:i].strip()
    return None
