"""Computes round tick values and the map from values to pixels, and draws the axis below a chart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drsft.report.charts.drawing import Drawing

__all__ = ["Scale", "draw_x_axis", "nice_ticks", "step_ticks", "tick_digits", "ticks_within"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps low..high linearly to start..end; values beyond are clamped."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Returns about `count` multiples of 1, 2, 2.5 or 5 times a power of ten, from below `low` to above
    `high`.

    nice_ticks(0.31, 0.58, 4) gives [0.3, 0.4, 0.5, 0.6].
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    if high <= low:
        margin = abs(low) * 0.1 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(step - rough))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def ticks_within(low: float, high: float, count: int) -> list[float]:
    """Returns the round values within low..high, for an axis that ends where the data ends."""
    slack = 1e-9 * (high - low)
    return [tick for tick in nice_ticks(low, high, count) if low - slack <= tick <= high + slack]


def step_ticks(first: float, last: float, count: int) -> list[int]:
    """Returns about `count` whole steps within first..last: all of a short training, round ones of a long
    one.

    step_ticks(1, 3, 7) gives [1, 2, 3]; step_ticks(1, 87, 4) gives [25, 50, 75].
    """
    lowest, highest = math.ceil(first), math.floor(last)
    if highest - lowest < count:
        return list(range(lowest, highest + 1))
    return sorted({int(tick) for tick in ticks_within(lowest, highest, count) if tick == int(tick)})


def tick_digits(ticks: Sequence[float]) -> int:
    """Returns how many decimals show every tick exactly: 0.25 needs two."""
    return next((n for n in range(6) if all(abs(tick - round(tick, n)) < 1e-9 for tick in ticks)), 6)


def draw_x_axis(
    drawing: Drawing, x: Scale, ticks: Sequence[float], texts: Sequence[str], *, bottom: float, name: str = ""
) -> None:
    """Draws vertical grid lines down to `bottom`, the tick values below them, and the axis' name
    below those.
    """
    for tick, text in zip(ticks, texts, strict=True):
        drawing.line((x(tick), 0), (x(tick), bottom), "grid")
        drawing.text(x(tick), bottom + 17, text, "muted", anchor="middle")
    if name:
        drawing.text((x.start + x.end) / 2, bottom + 38, name, "muted", anchor="middle")
