"""The share of tokens that each objective's weights leave in effect, before rewriting and after."""

from markupsafe import Markup

from drsft.gap.summary import SourceGap
from drsft.report.charts.axes import Scale
from drsft.report.charts.drawing import Drawing, text_width
from drsft.report.wording import percent

__all__ = ["draw_effective_samples"]

ROW_HEIGHT = 34.0
AXIS_HEIGHT = 44.0
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
BEFORE, AFTER = "s-expert", "s-own"


def draw_effective_samples(before: SourceGap | None, after: SourceGap, *, width: float, css: str) -> Markup:
    """A ring for `before`, where there is one, and a dot for `after`, on one line for each objective."""
    left = max(text_width(weight.objective) for weight in after.weights) + 12
    x = Scale(0.0, 1.0, left, width - 24)
    bottom = len(after.weights) * ROW_HEIGHT + 4
    drawing = Drawing(width, bottom + AXIS_HEIGHT, label="Effective share of the tokens by objective")
    for tick in TICKS:
        drawing.line((x(tick), 0), (x(tick), bottom), "grid")
        drawing.text(x(tick), bottom + 17, percent(tick, 0), "muted", anchor="middle")
    axis = "tokens that the weights leave in effect"
    drawing.text((left + width) / 2, bottom + 38, axis, "muted", anchor="middle")
    for index, weight in enumerate(after.weights):
        y = (index + 0.5) * ROW_HEIGHT + 2
        drawing.text(0, y + 4.5, weight.objective, "name")
        was = before.weight(weight.objective) if before else None
        if was is not None:
            start, end = x(was.effective_sample_share), x(weight.effective_sample_share)
            drawing.line((start, y), (end, y), "whisker c0")
            tip = f"{weight.objective} before: {percent(was.effective_sample_share)}"
            drawing.circle((start, y), 5.5, f"dot {BEFORE}", tip=tip)
        tip = f"{weight.objective} after: {percent(weight.effective_sample_share)}"
        drawing.circle((x(weight.effective_sample_share), y), 6.5, f"dot {AFTER}", tip=tip)
    return drawing.markup(css)
