"""A dot and its 95 % interval for each arm of one benchmark, with the training seeds as small rings."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from drsft.report.charts.axes import Scale, nice_ticks, tick_digits
from drsft.report.charts.drawing import Drawing, text_width
from drsft.report.data import ComparisonRow
from drsft.report.wording import interval, percent

__all__ = ["draw_intervals"]

AXIS_HEIGHT = 34.0


def draw_intervals(
    rows: Sequence[ComparisonRow], colours: Mapping[str, int], *, width: float, css: str
) -> Markup:
    """`colours` gives each arm its palette entry. Names stand beside the lines, above them on a phone."""
    is_narrow = width < 500
    row_height = 50.0 if is_narrow else 42.0
    left = 6.0 if is_narrow else max(text_width(row.arm) for row in rows) + 20
    right = 12.0 if is_narrow else 76.0
    bounds = [bound for row in rows for bound in (row.low, row.high, *row.seed_values)]
    ticks = nice_ticks(min(bounds), max(bounds), 5 if is_narrow else 6)
    scale = Scale(ticks[0], ticks[-1], left, width - right)
    bottom = len(rows) * row_height + 6
    drawing = Drawing(width, bottom + AXIS_HEIGHT, label=f"avg@k of {len(rows)} arms with 95 % intervals")
    for tick in ticks:
        drawing.line((scale(tick), 0), (scale(tick), bottom), "grid")
        drawing.text(
            scale(tick), bottom + 17, percent(tick, max(tick_digits(ticks) - 2, 0)), "muted", anchor="middle"
        )
    base = next((row for row in rows if row.arm == "base"), None)
    if base is not None and len(rows) > 1:
        drawing.line((scale(base.avg_at_k), 0), (scale(base.avg_at_k), bottom), "reference")
    for index, row in enumerate(rows):
        middle = (index + 0.5) * row_height + (9 if is_narrow else 3)
        _draw_row(drawing, row, scale, middle, f"c{colours[row.arm]}")
        name_y = middle - 15 if is_narrow else middle + 4.5
        drawing.text(0, name_y, row.arm, "name")
        drawing.text(width, name_y, percent(row.avg_at_k), "value", anchor="end")
    return drawing.markup(css)


def _draw_row(drawing: Drawing, row: ComparisonRow, scale: Scale, y: float, colour: str) -> None:
    low, high = scale(row.low), scale(row.high)
    drawing.line((low, y), (high, y), f"whisker {colour}")
    for end in (low, high):
        drawing.line((end, y - 5), (end, y + 5), f"whisker {colour}")
    tip = f"{row.arm}: {percent(row.avg_at_k)}, 95 % interval {interval(row.low, row.high)}"
    drawing.circle((scale(row.avg_at_k), y), 6, f"dot {colour}", tip=tip)
    for seed, value in zip(row.seeds, row.seed_values, strict=False):
        drawing.circle((scale(value), y), 3.2, f"ring {colour}", tip=f"seed {seed}: {percent(value)}")
