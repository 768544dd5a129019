"""Draws training tokens by their probability, before and after training: a panel for each arm, with both axes
logarithmic.
"""

import math
from collections.abc import Mapping, Sequence

from drsft.report.charts.axes import Scale
from drsft.report.charts.drawing import Drawing, Point
from drsft.report.data import TokenProbabilities
from drsft.report.wording import plural

__all__ = ["draw_probabilities"]

PANEL_HEIGHT = 190.0
MIN_PANEL_WIDTH = 270.0
GUTTER = 26.0
LOWEST_SHARE = 1e-4
SHARES = {1.0: "100 %", 0.1: "10 %", 0.01: "1 %", 0.001: "0.1 %"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw_probabilities(
    arms: Sequence[TokenProbabilities], colours: Mapping[str, int], *, width: float
) -> Drawing:
    num_columns = min(max(int((width + GUTTER) // (MIN_PANEL_WIDTH + GUTTER)), 1), len(arms))
    panel = (width - (num_columns - 1) * GUTTER) / num_columns
    num_lines = math.ceil(len(arms) / num_columns)
    drawing = Drawing(
        width,
        num_lines * PANEL_HEIGHT + 20,
        label="Training tokens by their probability, before and after training, by arm",
    )
    for index, one in enumerate(arms):
        line, column = divmod(index, num_columns)
        left, top = column * (panel + GUTTER), line * PANEL_HEIGHT
        _draw_panel(drawing, one, f"c{colours[one.arm]}", left=left, top=top, right=left + panel)
    axis = "probability; upwards: share of the tokens"
    drawing.text(width / 2, num_lines * PANEL_HEIGHT + 14, axis, "muted", anchor="middle")
    return drawing


def _draw_panel(
    drawing: Drawing, one: TokenProbabilities, colour: str, *, left: float, top: float, right: float
) -> None:
    low, high = one.log10_edges[0], one.log10_edges[-1]
    x = Scale(low, high, left + 52, right - 8)
    y = Scale(math.log10(LOWEST_SHARE), 0.0, top + PANEL_HEIGHT - 42, top + 28)
    drawing.text(left, top + 14, one.arm, "name")
    for share, text in SHARES.items():
        drawing.line((x.start, y(math.log10(share))), (x.end, y(math.log10(share))), "grid")
        drawing.text(x.start - 6, y(math.log10(share)) + 4.5, text, "muted", anchor="end")
    for power in range(math.ceil(low), math.floor(high) + 1, 2):
        drawing.text(x(power), y.start + 18, _power(power), "muted", anchor="middle")
    for counts, css in ((one.before, "curve plain c0"), (one.after, f"curve plain {colour}")):
        drawing.polyline(_outline(one, counts, x, y), css, tip=plural(sum(counts), "token"))


def _outline(one: TokenProbabilities, counts: Sequence[int], x: Scale, y: Scale) -> list[Point]:
    total = max(sum(counts), 1)
    points = []
    for low, high, number in zip(one.log10_edges[:-1], one.log10_edges[1:], counts, strict=True):
        height = y(math.log10(max(number / total, LOWEST_SHARE)))
        points += [(x(low), height), (x(high), height)]
    return points


def _power(exponent: int) -> str:
    return "1" if exponent == 0 else f"10{str(exponent).translate(SUPERSCRIPTS)}"
