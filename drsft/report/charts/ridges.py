"""Draws how likely the model finds the texts of each group: the distribution of row means, one curve per
group.
"""

from collections.abc import Sequence

from drsft.gap.summary import Histogram, SourceGap
from drsft.report.charts.axes import Scale, draw_x_axis, tick_digits, ticks_within
from drsft.report.charts.drawing import NARROW, Drawing
from drsft.report.wording import decimal, plural

__all__ = ["draw_logprob_ridges", "draw_phi_ridges", "group_name", "shown_groups"]

_NAMES = {
    "sampled": "Sampled, right or wrong",
    "replaced": "Expert, replaced",
    "own": "Own",
    "rewritten": "Rewritten",
    "hinted": "Hinted",
    "teacher": "Teacher",
    "expert": "Expert, kept",
}
_COLOURS = {
    "sampled": "c0",
    "replaced": "s-pending",
    "own": "s-own",
    "rewritten": "s-rewritten",
    "hinted": "s-hinted",
    "teacher": "c4",
    "expert": "s-expert",
}
_WHOLES = ("kept", "demonstrations")  # these consist of the other groups
RIDGE_HEIGHT = 96.0
SHAPE_HEIGHT = 62.0
AXIS_HEIGHT = 48.0


def group_name(name: str) -> str:
    return _NAMES.get(name, name)


def shown_groups(groups: Sequence[SourceGap]) -> list[SourceGap]:
    """Returns the groups to draw, in a fixed order, without "kept" and "demonstrations".

    Those two consist of the other groups; if there are no others, all groups are returned.
    """
    parts = [group for group in groups if group.name not in _WHOLES]
    order = list(_NAMES)
    return sorted(parts or groups, key=lambda one: order.index(one.name) if one.name in order else len(order))


def draw_logprob_ridges(groups: Sequence[SourceGap], *, width: float) -> Drawing:
    histograms = [group.row_logprobs for group in groups]
    return _draw_ridges(groups, histograms, "mean log-prob of a row, nats per token", width=width)


def draw_phi_ridges(groups: Sequence[SourceGap], *, width: float) -> Drawing:
    histograms = [group.row_phis for group in groups]
    return _draw_ridges(groups, histograms, "φ̄ of a row, nats per token", width=width)


def _draw_ridges(
    groups: Sequence[SourceGap], histograms: Sequence[Histogram], axis: str, *, width: float
) -> Drawing:
    """Draws all distributions on one axis; areas are shares of the group's rows."""
    edges = histograms[0].edges
    ticks = ticks_within(edges[0], edges[-1], 4 if width < NARROW else 7)
    scale = Scale(edges[0], edges[-1], 2, width - 2)
    bottom = len(groups) * RIDGE_HEIGHT
    drawing = Drawing(width, bottom + AXIS_HEIGHT, label=f"Distribution of the {axis}, by group")
    texts = [decimal(tick, tick_digits(ticks)) for tick in ticks]
    draw_x_axis(drawing, scale, ticks, texts, bottom=bottom, name=axis)
    pairs = list(zip(groups, histograms, strict=True))
    peak = max(max(histogram.counts) / group.num_rows for group, histogram in pairs)
    for index, (group, histogram) in enumerate(pairs):
        _draw_ridge(drawing, group, histogram, scale, (index + 1) * RIDGE_HEIGHT - 4, peak)
    return drawing


def _draw_ridge(
    drawing: Drawing, group: SourceGap, histogram: Histogram, scale: Scale, floor: float, peak: float
) -> None:
    outline = [(scale(histogram.edges[0]), floor)]
    for low, high, number in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
        y = floor - SHAPE_HEIGHT * number / group.num_rows / peak
        outline += [(scale(low), y), (scale(high), y)]
    outline.append((scale(histogram.edges[-1]), floor))
    colour = _COLOURS.get(group.name, "c1")
    drawing.polyline(outline, f"ridge {colour}", tip=plural(group.num_rows, "row"))
    value = group.mean_row_phi if histogram is group.row_phis else group.mean_row_logprob
    drawing.line((scale(value), floor - SHAPE_HEIGHT), (scale(value), floor), f"mean {colour}")
    top = floor - SHAPE_HEIGHT - 12
    drawing.text(0, top, group_name(group.name), "name haloed")
    drawing.text(drawing.width, top, f"mean {decimal(value)}", "value haloed", anchor="end")
