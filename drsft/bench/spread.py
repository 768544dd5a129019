"""Formats the figures of several rounds as one text: the median, with the lowest and the highest."""

import statistics
from collections.abc import Sequence

__all__ = ["spread"]


def spread(values: Sequence[float], *, decimals: int) -> str:
    """Returns the median and the range as a text such as "0.93 (0.89 to 0.98)"."""
    median, least, most = (f"{f(values):.{decimals}f}" for f in (statistics.median, min, max))
    return f"{median} ({least} to {most})"
