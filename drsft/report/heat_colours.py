"""Colours tokens by their phi, in the page and in the terminal, at the thresholds of the report's shares."""

from drsft.gap.scored_texts import PHI_THRESHOLDS

__all__ = ["heat_class", "heat_style"]

_STYLES = {"": "", "h-1": "white on #5f3a2a", "h-3": "white on #8f3f2a", "h-5": "bold white on #c0392b"}


def heat_class(phi: float) -> str:
    """Returns the CSS class for a token's phi in nats: that of the lowest threshold above phi, such as "h-3".

    Returns "" if phi is -1 or more.
    """
    passed = [threshold for threshold in PHI_THRESHOLDS if phi < threshold]
    return f"h{passed[-1]}" if passed else ""


def heat_style(phi: float) -> str:
    """Returns the rich style for a token's phi in nats, by the thresholds of `heat_class`."""
    return _STYLES[heat_class(phi)]
