"""The facts about a tokenizer that the derivation needs: its markers, its end tokens, and the ids of
a text.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Lexicon", "Mark", "looks_like_a_marker", "tags_in"]

# A tag as templates write them: <|user|>, <｜User｜>, <think>, </s>, <seed:think>, [THINK], [/INST], [e~[.
_BARS = r"<[|｜][^<>\s]{1,60}[|｜]>|<\|[^<>|\s]{1,60}>|<[^<>|\s]{1,60}\|>|\[\|[^\[\]|\s]{1,60}\|\]"
_BARRED = re.compile(_BARS)
_TAG = re.compile(rf"{_BARS}|<[^<>\s]{{1,60}}>|\[/?[A-Z][A-Z_]{{1,40}}\]")


def looks_like_a_marker(token: str) -> bool:
    """Returns whether an added token looks like a marker: three characters or more, with neither a letter nor
    a digit at its ends, and not only white space.
    """
    return len(token) > 2 and not token[0].isalnum() and not token[-1].isalnum() and not token.isspace()


def tags_in(text: str, *, barred: bool = False) -> list[re.Match[str]]:
    """Returns a match for each part of a text that looks like a marker (<|user|>, </s>, [INST]), whether it
    is a token or not.

    With `barred`, only those with bars inside their brackets, like <|x|>, count.
    """
    return list((_BARRED if barred else _TAG).finditer(text))


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker found in a text: the indices of its first character and of the one after its last, and its
    token id.
    """

    start: int
    end: int
    token_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """The markers of a tokenizer, with their ids: single tokens that ordinary text never contains, like
    <|user|>.
    """

    markers: Mapping[str, int]
    bos_token: str | None
    eos_token: str | None
    eos_id: int | None
    listed_ends: Sequence[int] | None  # generation_config.json's eos_token_id; None without such a file
    encode: Callable[[str], Sequence[int]]

    def marks(self, text: str) -> list[Mark]:
        """Returns the markers in a text, from left to right; where several begin at one place, the
        longest.
        """
        return [
            Mark(found.start(), found.end(), self.markers[found[0]])
            for found in self._pattern().finditer(text)
        ]

    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.markers, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def spelt(self, text: str, *, barred: bool) -> Iterator[str]:
        """Yields the parts of a text that look like markers but are not single tokens.

        With `barred`, only those like <|x|> count.
        """
        inside = self.marks(text)
        for tag in tags_in(text, barred=barred):
            if not any(mark.start < tag.end() and tag.start() < mark.end for mark in inside):
                yield tag[0]

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text according to the model's own files, without repetition."""
        named = [*(self.listed_ends or ()), *([] if self.eos_id is None else [self.eos_id])]
        return tuple(dict.fromkeys(named))

    def text_of(self, token_id: int) -> str | None:
        """Returns the marker with an id; None if no marker has it."""
        return next((text for text, known in self.markers.items() if known == token_id), None)
