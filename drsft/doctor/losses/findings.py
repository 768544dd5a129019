"""The result of a comparison: the largest error of a number, or of a tensor, against the expected one."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["TOLERANCE", "Finding", "error_between"]

TOLERANCE = 1e-6  # float64; the files round to 12 decimals
MAX_SCALE = 1e300  # a finite number is infinitely far from an infinite one, not inf / inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    block: str
    subject: str  # the method, or another subject of the block
    quantity: str
    error: float

    @property
    def is_right(self) -> bool:
        return self.error <= TOLERANCE  # NaN is not


def error_between(found: Tensor, expected: Tensor) -> float:
    """Returns the largest |found − expected| / max(1, |expected|) over all elements.

    The error is infinite if the shapes differ, 0 for empty tensors, and NaN if either has a NaN. Equal
    infinities have no error.
    """
    if found.shape != expected.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    found = found.double()
    errors = (found - expected).abs() / expected.abs().clamp(min=1, max=MAX_SCALE)
    return float(errors.masked_fill(found == expected, 0.0).max())
