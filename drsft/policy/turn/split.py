"""Splits a sampled completion's ids into thought and answer.

If the markers are special tokens, decoding drops them, so the text alone no longer shows the two parts.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["CompletionIds", "ThoughtIds", "split_ids"]

Decode = Callable[[Sequence[int]], str]  # markers included


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtIds:
    """The markers that open and close a thought, as texts and as ids, and whether a completion begins inside
    a thought.
    """

    open: str
    close: str
    open_ids: tuple[int, ...]
    close_ids: tuple[int, ...]
    is_spelt: bool  # the markers are no single tokens: other texts around them give other ids
    begins_inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionIds:
    """The token ids of a completion's thought and answer; `thought` is None if there is none. Markers belong
    to neither.

    The thought reaches from the first opening marker to the last closing one, so several thoughts are one.
    """

    thought: tuple[int, ...] | None
    answer: tuple[int, ...]
    is_closed: bool = True
    """Whether the thought ends; a completion with an open thought has no answer."""
    num_thought_tokens: int = 0
    """How many of the completion's first tokens are the thought, up to its end and including markers."""


def split_ids(ids: Sequence[int], marks: ThoughtIds | None, decode: Decode) -> CompletionIds:
    """Splits a completion into thought and answer; the answer is everything after the last marker that closes
    a thought.

    If another thought opens after that marker and is never closed, there is no answer. If `marks` is None,
    everything is the answer.
    """
    whole = tuple(ids)
    if marks is None:
        return CompletionIds(thought=None, answer=whole)
    closed = _find(whole, marks, decode, of="close", is_last=True)
    opened = _find(whole, marks, decode, of="open", is_last=True)
    is_inside = marks.begins_inside if opened is None else True
    if closed is not None and (opened is None or opened[1] <= closed[1]):
        thought = _behind_opening(whole[: closed[0]], marks, decode)
        return CompletionIds(thought=thought, answer=whole[closed[1] :], num_thought_tokens=closed[1])
    if closed is not None or is_inside:
        thought = _behind_opening(whole, marks, decode)
        return CompletionIds(thought=thought, answer=(), is_closed=False, num_thought_tokens=len(whole))
    return CompletionIds(thought=None, answer=whole)


def _behind_opening(ids: tuple[int, ...], marks: ThoughtIds, decode: Decode) -> tuple[int, ...]:
    """Returns the ids after the first opening marker.

    All ids are returned if a closing marker comes first, or if the prompt has opened the thought and text
    comes first.
    """
    opened = _find(ids, marks, decode, of="open", is_last=False)
    if opened is None:
        return ids
    closed = _find(ids, marks, decode, of="close", is_last=False)
    is_begun = marks.begins_inside and any(decode([one]).strip() for one in ids[: opened[0]])
    return ids if is_begun or (closed is not None and closed[1] < opened[1]) else ids[opened[1] :]


def _find(
    ids: tuple[int, ...], marks: ThoughtIds, decode: Decode, *, of: Literal["open", "close"], is_last: bool
) -> tuple[int, int] | None:
    """Returns the first index of a marker's first (or last) occurrence, and the index after it."""
    marker, marker_ids = (marks.open, marks.open_ids) if of == "open" else (marks.close, marks.close_ids)
    if marks.is_spelt:
        return _find_spelt(ids, marker, decode, is_last=is_last)
    size = len(marker_ids)
    starts = range(len(ids) - size + 1)
    for start in reversed(starts) if is_last else starts:
        if ids[start] == marker_ids[0] and ids[start : start + size] == marker_ids:
            return start, start + size
    return None


def _find_spelt(
    ids: tuple[int, ...], marker: str, decode: Decode, *, is_last: bool
) -> tuple[int, int] | None:
    text = decode(ids)
    start = text.rfind(marker) if is_last else text.find(marker)
    if start < 0:
        return None
    ends = range(len(ids) + 1)
    behind = bisect_left(ends, start + len(marker), key=lambda end: len(decode(ids[:end])))
    first = bisect_left(ends, start + 1, key=lambda end: len(decode(ids[:end]))) - 1
    return first, behind
