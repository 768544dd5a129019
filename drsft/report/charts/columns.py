"""Draws a histogram of the guided solutions' scores: the log-prob of the answer without the guide.

In each column, accepted solutions are at the bottom and the others above them.
"""

from drsft.report.charts.axes import Scale, draw_x_axis, ticks_within
from drsft.report.charts.drawing import NARROW, Drawing
from drsft.report.grounding import GroundingShown
from drsft.report.wording import decimal, plural

__all__ = ["draw_answer_logprobs"]

COLUMNS_HEIGHT, AXIS_HEIGHT, VALUE_HEIGHT = 150.0, 48.0, 18.0


def draw_answer_logprobs(shown: GroundingShown, *, width: float) -> Drawing:
    """Draws the guided solutions as a histogram over the log-prob of their answer, one column per nat."""
    drawing = Drawing(
        width,
        COLUMNS_HEIGHT + AXIS_HEIGHT,
        label="Guided solutions by the log-prob of their answer where it is first stated",
    )
    low, high = shown.bins[0].low_nats, shown.bins[-1].low_nats + 1
    x = Scale(low, high, 2, width - 2)
    ticks = ticks_within(low, high, 4 if width < NARROW else 8)
    draw_x_axis(
        drawing,
        x,
        ticks,
        [decimal(tick, 0) for tick in ticks],
        bottom=COLUMNS_HEIGHT,
        name="log-prob of the answer, nats",
    )
    y = Scale(0, max(one.num_scored for one in shown.bins), 0, COLUMNS_HEIGHT - VALUE_HEIGHT)
    for one in shown.bins:
        left, room = x(one.low_nats), x(one.low_nats + 1) - x(one.low_nats) - 2
        tip = f"{plural(one.num_scored, 'solution')}, {one.num_accepted} accepted"
        height, accepted = y(one.num_scored), y(one.num_accepted)
        top = COLUMNS_HEIGHT - height
        drawing.rect(left + 1, top, room, height - accepted, "share s-pending", tip=tip)
        drawing.rect(left + 1, COLUMNS_HEIGHT - accepted, room, accepted, "share s-rewritten", tip=tip)
        if one.num_scored:
            drawing.text(left + 1 + room / 2, top - 5, str(one.num_scored), "value haloed", anchor="middle")
    return drawing
