"""Draws rows of dots on one axis: scores and differences with intervals, effective samples before and
after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drsft.gap.summary import SourceGap
from drsft.report.charts.axes import Scale, draw_x_axis, nice_ticks, tick_digits
from drsft.report.charts.drawing import NARROW, Drawing, text_width
from drsft.report.data import ComparisonRow
from drsft.report.wording import interval, percent, points

__all__ = ["Difference", "draw_differences", "draw_effective_samples", "draw_scores"]

SCORE_HEIGHT, DIFFERENCE_HEIGHT, WEIGHT_HEIGHT = 42.0, 50.0, 34.0  # of a row
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference of two shares, with the bounds of its interval; all in -1..1."""

    name: str
    value: float
    low: float
    high: float


def draw_scores(rows: Sequence[ComparisonRow], colours: Mapping[str, int], *, width: float) -> Drawing:
    """Draws each arm's avg@k on one benchmark with its interval, one row per arm.

    Rings are training seeds; a vertical line is the score of base. In a narrow chart, names are above the
    rows.
    """
    is_narrow = width < NARROW
    row_height = SCORE_HEIGHT + 8.0 * is_narrow
    left = 6.0 if is_narrow else max(text_width(row.arm) for row in rows) + 20
    bounds = [bound for row in rows for bound in (row.low, row.high, *row.seed_values)]
    ticks = nice_ticks(min(bounds), max(bounds), 5 if is_narrow else 6)
    x = Scale(ticks[0], ticks[-1], left, width - (12.0 if is_narrow else 76.0))
    bottom = len(rows) * row_height + 6
    drawing = Drawing(width, bottom + 34, label=f"avg@k of {len(rows)} arms with 95 % intervals")
    texts = [percent(tick, max(tick_digits(ticks) - 2, 0)) for tick in ticks]
    draw_x_axis(drawing, x, ticks, texts, bottom=bottom)
    base = next((row for row in rows if row.arm == "base"), None)
    if base is not None and len(rows) > 1:
        drawing.line((x(base.avg_at_k), 0), (x(base.avg_at_k), bottom), "reference")
    for index, row in enumerate(rows):
        y = (index + 0.5) * row_height + (9 if is_narrow else 3)
        _draw_score(drawing, row, x, y, f"c{colours[row.arm]}")
        name_y = y - 15 if is_narrow else y + 4.5
        drawing.text(0, name_y, row.arm, "name")
        drawing.text(width, name_y, percent(row.avg_at_k), "value", anchor="end")
    return drawing


def _draw_score(drawing: Drawing, row: ComparisonRow, x: Scale, y: float, colour: str) -> None:
    drawing.line((x(row.low), y), (x(row.high), y), f"whisker {colour}")
    for end in (x(row.low), x(row.high)):
        drawing.line((end, y - 5), (end, y + 5), f"whisker {colour}")
    tip = f"{row.arm}: {percent(row.avg_at_k)}, 95 % interval {interval(row.low, row.high)}"
    drawing.circle((x(row.avg_at_k), y), 6, f"dot {colour}", tip=tip)
    for seed, value in zip(row.seeds, row.seed_values, strict=False):
        drawing.circle((x(value), y), 3.2, f"ring {colour}", tip=f"seed {seed}: {percent(value)}")


def draw_differences(rows: Sequence[Difference], *, width: float) -> Drawing:
    """Draws how much the second run gains over the first, one row per difference.

    A difference whose interval contains zero is grey.
    """
    bounds = [0.0, *(bound for row in rows for bound in (row.low, row.high))]
    ticks = nice_ticks(min(bounds), max(bounds), 5 if width < NARROW else 7)
    x = Scale(ticks[0], ticks[-1], 16, width - max(text_width(points(row.value)) for row in rows) - 14)
    bottom = len(rows) * DIFFERENCE_HEIGHT + 4
    drawing = Drawing(width, bottom + 46, label="Differences with their 95 % intervals")
    axis = "percentage points, second run minus first"
    draw_x_axis(drawing, x, ticks, list(map(points, ticks)), bottom=bottom, name=axis)
    drawing.line((x(0), 0), (x(0), bottom), "reference")
    for index, row in enumerate(rows):
        y = index * DIFFERENCE_HEIGHT + 36
        colour = "c0" if row.low <= 0 <= row.high else "s-own" if row.value > 0 else "s-expert"
        drawing.text(0, y - 16, row.name, "name haloed")
        drawing.line((x(row.low), y), (x(row.high), y), f"whisker {colour}")
        tip = f"{row.name}: {points(row.value)} ({points(row.low)} to {points(row.high)})"
        drawing.circle((x(row.value), y), 6, f"dot {colour}", tip=tip)
        drawing.text(width, y + 4.5, points(row.value), "value", anchor="end")
    return drawing


def draw_effective_samples(before: SourceGap | None, after: SourceGap, *, width: float) -> Drawing:
    """Draws for each objective the share of the tokens that its weights leave in effect, before and after
    rewriting; only after if `before` is None.
    """
    left = max(text_width(weight.objective) for weight in after.weights) + 12
    x = Scale(0.0, 1.0, left, width - 24)
    bottom = len(after.weights) * WEIGHT_HEIGHT + 4
    drawing = Drawing(width, bottom + 44, label="Effective share of the tokens by objective")
    texts = [percent(tick, 0) for tick in SHARES]
    draw_x_axis(drawing, x, SHARES, texts, bottom=bottom, name="tokens that the weights leave in effect")
    for index, weight in enumerate(after.weights):
        y = (index + 0.5) * WEIGHT_HEIGHT + 2
        drawing.text(0, y + 4.5, weight.objective, "name")
        shares = {"after": weight.effective_sample_share}
        was = before.weight(weight.objective) if before else None
        if was is not None:
            shares = {"before": was.effective_sample_share} | shares
            start, end = (x(share) for share in shares.values())
            drawing.line((start, y), (end, y), "whisker c0")
        for when, share in shares.items():
            radius, colour = (6.5, "s-own") if when == "after" else (5.5, "s-expert")
            tip = f"{weight.objective} {when}: {percent(share)}"
            drawing.circle((x(share), y), radius, f"dot {colour}", tip=tip)
    return drawing
