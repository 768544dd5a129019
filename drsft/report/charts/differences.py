"""What one run gains over another, arm by arm: a dot and its 95 % interval about zero."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drsft.report.charts.axes import Scale, nice_ticks
from drsft.report.charts.drawing import Drawing, text_width
from drsft.report.wording import points

__all__ = ["Difference", "draw_differences"]

ROW_HEIGHT = 50.0
AXIS_HEIGHT = 46.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of two shares, with the bounds of its interval; all in -1..1."""

    name: str
    value: float
    low: float
    high: float


def draw_differences(rows: Sequence[Difference], *, width: float, css: str) -> Markup:
    bounds = [0.0, *(bound for row in rows for bound in (row.low, row.high))]
    ticks = nice_ticks(min(bounds), max(bounds), 5 if width < 500 else 7)
    right = max(text_width(points(row.value)) for row in rows) + 14
    x = Scale(ticks[0], ticks[-1], 16, width - right)
    bottom = len(rows) * ROW_HEIGHT + 4
    drawing = Drawing(width, bottom + AXIS_HEIGHT, label="Differences with their 95 % intervals")
    for tick in ticks:
        drawing.line((x(tick), 0), (x(tick), bottom), "reference" if abs(tick) < 1e-12 else "grid")
        drawing.text(x(tick), bottom + 17, points(tick), "muted", anchor="middle")
    axis = "percentage points, second run minus first"
    drawing.text(width / 2, bottom + 38, axis, "muted", anchor="middle")
    for index, row in enumerate(rows):
        y = index * ROW_HEIGHT + 36
        css_class = "c0" if row.low <= 0 <= row.high else "s-own" if row.value > 0 else "s-expert"
        drawing.text(0, y - 16, row.name, "name haloed")
        drawing.line((x(row.low), y), (x(row.high), y), f"whisker {css_class}")
        tip = f"{row.name}: {points(row.value)} ({points(row.low)} to {points(row.high)})"
        drawing.circle((x(row.value), y), 6, f"dot {css_class}", tip=tip)
        drawing.text(width, y + 4.5, points(row.value), "value", anchor="end")
    return drawing.markup(css)
