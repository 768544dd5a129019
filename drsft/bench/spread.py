"""Writes the figures of several rounds as one: the median, with the least and the most."""

import statistics
from collections.abc import Sequence

__all__ = ["spread"]


def spread(values: Sequence[float], *, decimals: int) -> str:
    """Returns such as "0.93 (0.89 to 0.98)"."""
    median, least, most = (f"{f(values):.{decimals}f}" for f in (statistics.median, min, max))
    return f"{median} ({least} to {most})"
