"""Draws loss curves of all arms on one axis: the mean over seeds as a line, their range as a band.

If there are too many arms to distinguish, each data view gets a panel, on the same axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drsft.report.charts.axes import Scale, nice_ticks, step_ticks, tick_digits
from drsft.report.charts.drawing import NARROW, Drawing, text_width
from drsft.report.data import LossCurve
from drsft.report.wording import count, decimal, plural

__all__ = ["ArmCurve", "draw_losses", "legend", "merge_seeds", "panels"]

MAX_POINTS = 120
LABEL_HEIGHT = 17.0
MAX_TOGETHER = 7  # as many as there are colours
MAX_DOTS = 12  # a training this short has its steps marked; a single one has no line at all


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCurve:
    """The curve of one arm: at each step the mean, lowest and highest seed."""

    arm: str
    num_seeds: int
    steps: tuple[float, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    data: str = ""
    objective: str = ""


def merge_seeds(losses: Sequence[LossCurve], *, max_points: int = MAX_POINTS) -> list[ArmCurve]:
    """Averages each seed's points within equal bins of steps, then over seeds; returns a curve per arm."""
    last = max((curve.points[-1][0] for curve in losses if curve.points), default=0)
    width = max(last / max_points, 1.0)
    merged = []
    for arm in dict.fromkeys(curve.arm for curve in losses):
        bins: dict[int, list[float]] = {}
        seeds = [curve for curve in losses if curve.arm == arm and curve.points]
        for curve in seeds:
            inside: dict[int, list[float]] = {}
            for step, loss in curve.points:
                inside.setdefault(int(step / width), []).append(loss)
            for index, values in inside.items():
                bins.setdefault(index, []).append(sum(values) / len(values))
        if bins:
            merged.append(_arm_curve(seeds, bins, width, last))
    return merged


def _arm_curve(
    seeds: Sequence[LossCurve], bins: Mapping[int, Sequence[float]], width: float, last: float
) -> ArmCurve:
    order = sorted(bins)
    return ArmCurve(
        arm=seeds[0].arm,
        data=seeds[0].data,
        objective=seeds[0].objective,
        num_seeds=len(seeds),
        # With one step to a bin the step itself, else the bin's middle.
        steps=tuple(min((index + 0.5) * width, last) if width > 1 else float(index) for index in order),
        means=tuple(sum(bins[index]) / len(bins[index]) for index in order),
        lows=tuple(min(bins[index]) for index in order),
        highs=tuple(max(bins[index]) for index in order),
    )


def panels(curves: Sequence[ArmCurve]) -> dict[str, list[ArmCurve]]:
    """Returns the curves of each panel, by data view; few curves share one panel without a name."""
    if len(curves) <= MAX_TOGETHER:
        return {"": list(curves)}
    return {
        data: [one for one in curves if one.data == data] for data in dict.fromkeys(c.data for c in curves)
    }


def legend(curves: Sequence[ArmCurve], colours: Mapping[str, int]) -> dict[str, int]:
    """Returns the index of each colour in the palette by its name in the legend.

    The names are arms, or objectives if there is more than one panel.
    """
    has_panels = len(panels(curves)) > 1
    return {curve.objective if has_panels else curve.arm: colours[curve.arm] for curve in curves}


def draw_losses(curves: Sequence[ArmCurve], colours: Mapping[str, int], *, width: float) -> Drawing:
    is_narrow = width < NARROW
    parts = panels(curves)
    height = (250.0 if is_narrow else 330.0) if len(parts) == 1 else 230.0
    has_labels = (
        not is_narrow and len(parts) == 1
    )  # otherwise only the legend above the chart names the curves
    left = 38.0 if is_narrow else 48.0
    right = max(text_width(curve.arm) for curve in curves) + 18 if has_labels else 10.0
    lows = [low for curve in curves for low in curve.lows]
    highs = [high for curve in curves for high in curve.highs]
    y_ticks = nice_ticks(0.0 if 0 < min(lows) < 0.4 * max(highs) else min(lows), max(highs), 5)
    first_step = min(curve.steps[0] for curve in curves)
    last_step = max(curve.steps[-1] for curve in curves)
    x_ticks = step_ticks(first_step, last_step, 4 if is_narrow else 7)
    x = Scale(first_step, last_step, left, width - right)
    drawing = Drawing(width, height * len(parts), label="Training cross-entropy by step, all arms")
    for index, (name, part) in enumerate(parts.items()):
        top = index * height
        y = Scale(y_ticks[0], y_ticks[-1], top + height - 44, top + 26)
        drawing.text(0, top + 12, "nats per token", "muted")
        drawing.text(left + 70, top + 12, name, "name")
        _draw_axes(drawing, x, y, x_ticks, y_ticks)
        for curve in part:
            _draw_curve(drawing, curve, x, y, f"c{colours[curve.arm]}")
        if has_labels:
            _label_ends(drawing, part, x, y)
    return drawing


def _draw_axes(
    drawing: Drawing, x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]
) -> None:
    for tick in y_ticks:
        drawing.line((x.start, y(tick)), (x.end, y(tick)), "grid")
        drawing.text(x.start - 8, y(tick) + 4.5, decimal(tick, tick_digits(y_ticks)), "muted", anchor="end")
    for tick in x_ticks:
        drawing.text(x(tick), y.start + 20, count(tick), "muted", anchor="middle")
    drawing.text((x.start + x.end) / 2, y.start + 39, "optimiser step", "muted", anchor="middle")


def _draw_curve(drawing: Drawing, curve: ArmCurve, x: Scale, y: Scale, colour: str) -> None:
    across = [x(step) for step in curve.steps]
    if curve.num_seeds > 1:
        upper = [(at, y(high)) for at, high in zip(across, curve.highs, strict=True)]
        lower = [(at, y(low)) for at, low in zip(across, curve.lows, strict=True)]
        drawing.polyline([*upper, *reversed(lower)], f"band {colour}", closed=True)
    line = [(at, y(mean)) for at, mean in zip(across, curve.means, strict=True)]
    if len(line) <= MAX_DOTS:
        for point in line:
            drawing.circle(point, 3.2, f"dot {colour}")
    drawing.polyline(line, f"curve {colour}", tip=f"{curve.arm}, {plural(curve.num_seeds, 'seed')}")


def _label_ends(drawing: Drawing, curves: Sequence[ArmCurve], x: Scale, y: Scale) -> None:
    """Writes names at the curves' ends, moved down where they would overlap."""
    lowest_free = 0.0
    for curve in sorted(curves, key=lambda curve: y(curve.means[-1])):
        at = max(y(curve.means[-1]) + 4.5, lowest_free)
        drawing.text(x(x.high) + 8, at, curve.arm, "name")
        lowest_free = at + LABEL_HEIGHT
