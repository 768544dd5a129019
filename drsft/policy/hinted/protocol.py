"""The interface of the engines of Hinted Decoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drsft.config import Mixing
from drsft.records import Completion, Sampling

__all__ = ["Contexts", "HintedDecoder", "PairCounts"]


@dataclass(slots=True)
class PairCounts:
    """Counts of an engine's pairs since it started; a pair is a problem's two contexts, decoded together."""

    num_pairs: int = 0
    num_redone: int = 0  # times that a pair fell out of step and resumed from its last confirmed token
    num_apart: int = 0  # pairs that ended up decoded separately

    def __sub__(self, earlier: "PairCounts") -> "PairCounts":
        """Returns the counts since `earlier`."""
        return PairCounts(
            num_pairs=self.num_pairs - earlier.num_pairs,
            num_redone=self.num_redone - earlier.num_redone,
            num_apart=self.num_apart - earlier.num_apart,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """The two prompts of a problem, as token ids; both are followed by the same continuation."""

    hinted_ids: tuple[int, ...]
    plain_ids: tuple[int, ...]

    @property
    def longest(self) -> int:
        return max(len(self.hinted_ids), len(self.plain_ids))


class HintedDecoder(Protocol):
    counts: PairCounts

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> Sequence[Completion]:
        """Returns `sampling.num_samples` completions, in order of their index; sample i has `seed + i`.

        Log-probs are those of the distribution that was drawn from. A completion depends on its contexts and
        its seed, not on the rest of the batch (up to rounding). Raises InputError when a prompt is too long.
        """
        ...
