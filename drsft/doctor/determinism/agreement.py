"""Compares the results of two passes over the same inputs."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Agreement", "agreement_of", "agreement_of_numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many of the compared values are equal, bit for bit.

    `largest_difference` is the largest |a − b| if the values are numbers, in their unit; else None.
    """

    num_equal: int
    num_compared: int
    largest_difference: float | None = None

    def __str__(self) -> str:
        if not self.num_compared:
            return "nothing to compare"
        if self.num_equal == self.num_compared:
            return f"all {self.num_compared:,} equal"
        apart = "" if self.largest_difference is None else f", at most {self.largest_difference:.1e} apart"
        return f"{self.num_equal:,} of {self.num_compared:,} equal{apart}"


def agreement_of(one: Mapping[Hashable, object], other: Mapping[Hashable, object]) -> Agreement:
    """Compares two mappings key by key; a key that only one of them has counts as different."""
    keys = one.keys() | other.keys()
    missing = object()
    num_equal = sum(one.get(key, missing) == other.get(key, missing) for key in keys)
    return Agreement(num_equal=num_equal, num_compared=len(keys))


def agreement_of_numbers(one: Sequence[float], other: Sequence[float]) -> Agreement:
    """Compares two sequences of numbers element by element. Raises ValueError if their lengths differ."""
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return Agreement(
        num_equal=sum(difference == 0 for difference in differences),
        num_compared=len(differences),
        largest_difference=max(differences, default=0.0),
    )
