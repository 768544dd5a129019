"""One bar for each of a few named amounts of one unit."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drsft.report.charts.drawing import Drawing, text_width

__all__ = ["Bar", "draw_bars"]

ROW_HEIGHT = 46.0
BAR_HEIGHT = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    name: str
    value: float
    text: str  # the value as it is written


def draw_bars(bars: Sequence[Bar], *, label: str, width: float, css: str) -> Markup:
    """All bars share one scale that begins at zero; `label` says what they measure, for who cannot see it."""
    room = max(text_width(bar.text) for bar in bars) + 12
    largest = max(bar.value for bar in bars) or 1.0
    drawing = Drawing(width, len(bars) * ROW_HEIGHT, label=label)
    for index, bar in enumerate(bars):
        top = index * ROW_HEIGHT
        length = (width - room) * bar.value / largest
        drawing.text(0, top + 13, bar.name, "name")
        drawing.rect(0, top + 20, max(length, 1), BAR_HEIGHT, "share c1", tip=f"{bar.name}: {bar.text}")
        drawing.text(max(length, 1) + 8, top + 20 + BAR_HEIGHT - 3.5, bar.text, "value")
    return drawing.markup(css)
