"""Draws rows of bars: the verdicts on each phase's samples as shares, and the workers' time of each stage."""

from collections.abc import Sequence

from drsft.records import Outcome
from drsft.report.cascade_counts import CascadePhase
from drsft.report.charts.drawing import Drawing, text_width
from drsft.report.data import StageCost
from drsft.report.wording import OUTCOME_NAMES, PHASE_NAMES, duration, percent, plural, work_name

__all__ = ["draw_times", "draw_verdicts"]

VERDICTS_HEIGHT, TIME_HEIGHT = 58.0, 46.0  # of a row


def draw_verdicts(phases: Sequence[CascadePhase], *, width: float) -> Drawing:
    """Draws the verdicts: one stacked bar for each phase."""
    drawing = Drawing(width, len(phases) * VERDICTS_HEIGHT, label="Verdicts on the samples of each phase")
    for index, one in enumerate(phases):
        top = index * VERDICTS_HEIGHT
        total = sum(one.outcomes.values())
        drawing.text(0, top + 14, PHASE_NAMES[one.phase], "name")
        drawing.text(width, top + 14, plural(total, "sample"), "muted", anchor="end")
        x = 0.0
        for outcome in Outcome:
            number = one.outcomes.get(outcome, 0)
            if not number:
                continue
            length = width * number / total
            label = f"{OUTCOME_NAMES[outcome]} {percent(number / total, 0)}"
            tip = f"{OUTCOME_NAMES[outcome]}: {plural(number, 'sample')}, {percent(number / total)}"
            drawing.rect(x, top + 22, max(length - 1.5, 0.5), 26, f"share o-{outcome.value}", tip=tip)
            if text_width(label) + 12 < length:
                drawing.text(x + 8, top + 39.5, label, "on-share")
            x += length
    return drawing


def draw_times(costs: Sequence[StageCost], *, width: float) -> Drawing:
    """Draws the total time of each stage's workers as bars, on one scale from zero.

    Stages whose time is not known are left out; at least one must be known.
    """
    times = {work_name(cost.name): cost.worker_s for cost in costs if cost.worker_s is not None}
    drawing = Drawing(width, len(times) * TIME_HEIGHT, label="Workers' time by stage")
    room = max(text_width(duration(time_s)) for time_s in times.values()) + 12
    longest_s = max(times.values()) or 1.0
    for index, (name, time_s) in enumerate(times.items()):
        top = index * TIME_HEIGHT
        length = max((width - room) * time_s / longest_s, 1)
        drawing.text(0, top + 13, name, "name")
        drawing.rect(0, top + 20, length, 16, "share c1", tip=f"{name}: {duration(time_s)}")
        drawing.text(length + 8, top + 32.5, duration(time_s), "value")
    return drawing
