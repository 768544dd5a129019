"""How likely the target finds the rows of each group: one silhouette of row means for each."""

from collections.abc import Sequence

from markupsafe import Markup

from drsft.gap.summary import SourceGap
from drsft.report.charts.axes import Scale, tick_digits, ticks_within
from drsft.report.charts.drawing import Drawing
from drsft.report.wording import decimal, plural

__all__ = ["RIDGE_NAMES", "draw_ridges"]

RIDGE_NAMES = {
    "replaced": "Expert, replaced",
    "own": "Own",
    "rewritten": "Rewritten",
    "hinted": "Hinted",
    "expert": "Expert, kept",
}
COLOURS = {name: f"s-{name}" for name in RIDGE_NAMES} | {"replaced": "s-pending"}
RIDGE_HEIGHT = 96.0
SHAPE_HEIGHT = 62.0
AXIS_HEIGHT = 48.0


def draw_ridges(groups: Sequence[SourceGap], *, width: float, css: str) -> Markup:
    """Groups in the order of RIDGE_NAMES; all share one axis, and areas are shares of the group's rows."""
    shown = [group for name in RIDGE_NAMES for group in groups if group.name == name]
    edges = shown[0].row_logprobs.edges
    ticks = ticks_within(edges[0], edges[-1], 4 if width < 500 else 7)
    scale = Scale(edges[0], edges[-1], 2, width - 2)
    bottom = len(shown) * RIDGE_HEIGHT
    drawing = Drawing(width, bottom + AXIS_HEIGHT, label="Distribution of mean log-probs of rows, by source")
    for tick in ticks:
        drawing.line((scale(tick), 0), (scale(tick), bottom), "grid")
        drawing.text(scale(tick), bottom + 17, decimal(tick, tick_digits(ticks)), "muted", anchor="middle")
    drawing.text(width / 2, bottom + 38, "mean log-prob of a row, nats per token", "muted", anchor="middle")
    peak = max(max(group.row_logprobs.counts) / group.num_rows for group in shown)
    for index, group in enumerate(shown):
        _draw_ridge(drawing, group, scale, (index + 1) * RIDGE_HEIGHT - 4, peak)
    return drawing.markup(css)


def _draw_ridge(drawing: Drawing, group: SourceGap, scale: Scale, floor: float, peak: float) -> None:
    edges, counts = group.row_logprobs.edges, group.row_logprobs.counts
    outline = [(scale(edges[0]), floor)]
    for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True):
        y = floor - SHAPE_HEIGHT * number / group.num_rows / peak
        outline += [(scale(low), y), (scale(high), y)]
    outline.append((scale(edges[-1]), floor))
    colour = COLOURS[group.name]
    drawing.polyline(outline, f"ridge {colour}", tip=plural(group.num_rows, "row"))
    mean = scale(group.mean_row_logprob)
    drawing.line((mean, floor - SHAPE_HEIGHT), (mean, floor), f"mean {colour}")
    top = floor - SHAPE_HEIGHT - 12
    drawing.text(0, top, RIDGE_NAMES[group.name], "name haloed")
    text = f"mean {decimal(group.mean_row_logprob)}"
    drawing.text(drawing.width, top, text, "value haloed", anchor="end")
