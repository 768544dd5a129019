"""Tells a sampled completion's thought from its answer, by ids.

Where the markers are special tokens, decoding drops them, so the text alone no longer tells the two apart.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["CompletionIds", "ThoughtIds", "split_ids"]

Decode = Callable[[Sequence[int]], str]  # markers included


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtIds:
    """The markers of thoughts as ids, and whether a completion begins inside a thought."""

    open: str
    close: str
    open_ids: tuple[int, ...]
    close_ids: tuple[int, ...]
    is_spelt: bool  # the markers are no single tokens: other texts around them give other ids
    begins_inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionIds:
    """A completion's ids in its parts. `thought` is None where there is none; markers belong to neither."""

    thought: tuple[int, ...] | None
    answer: tuple[int, ...]
    is_closed: bool = True
    """Whether the thought ends; only what follows its end is the answer, so an open one has none."""


def split_ids(ids: Sequence[int], marks: ThoughtIds | None, decode: Decode) -> CompletionIds:
    """The parts of a completion: its answer is what follows the last end of a thought."""
    whole = tuple(ids)
    if marks is None:
        return CompletionIds(thought=None, answer=whole)
    closed = _last(whole, marks.close, marks.close_ids, marks, decode)
    if closed is not None:
        before, answer = whole[: closed[0]], whole[closed[1] :]
        return CompletionIds(thought=_behind_opening(before, marks, decode), answer=answer)
    if marks.begins_inside or _last(whole, marks.open, marks.open_ids, marks, decode) is not None:
        return CompletionIds(thought=_behind_opening(whole, marks, decode), answer=(), is_closed=False)
    return CompletionIds(thought=None, answer=whole)


def _behind_opening(ids: tuple[int, ...], marks: ThoughtIds, decode: Decode) -> tuple[int, ...]:
    opened = _last(ids, marks.open, marks.open_ids, marks, decode)
    return ids if opened is None else ids[opened[1] :]


def _last(
    ids: tuple[int, ...], marker: str, marker_ids: tuple[int, ...], marks: ThoughtIds, decode: Decode
) -> tuple[int, int] | None:
    """Where a marker stands last: its first index and the one behind it."""
    if marks.is_spelt:
        return _last_spelt(ids, marker, decode)
    size = len(marker_ids)
    for start in range(len(ids) - size, -1, -1):
        if ids[start] == marker_ids[0] and ids[start : start + size] == marker_ids:
            return start, start + size
    return None


def _last_spelt(ids: tuple[int, ...], marker: str, decode: Decode) -> tuple[int, int] | None:
    start = decode(ids).rfind(marker)
    if start < 0:
        return None
    ends = range(len(ids) + 1)
    behind = bisect_left(ends, start + len(marker), key=lambda end: len(decode(ids[:end])))
    first = bisect_left(ends, start + 1, key=lambda end: len(decode(ids[:end]))) - 1
    return first, behind
