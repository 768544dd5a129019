"""Reads decimal numbers as people write them."""

import re
from fractions import Fraction

__all__ = ["plain_number"]

_DECIMAL = re.compile(r"-?\d{1,1000}(?:\.\d{1,1000})?")  # Python reads no integer of over 4,300 digits


def plain_number(text: str) -> Fraction | None:
    """Returns the value of a decimal number, which may have thousands' commas or a dollar sign; else None."""
    plain = text.strip().lstrip("\\$").replace(",", "")
    return Fraction(plain) if _DECIMAL.fullmatch(plain) else None
