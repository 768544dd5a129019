"""What the verifier said: one stacked bar of verdicts for each phase."""

from collections.abc import Sequence

from markupsafe import Markup

from drsft.records import Outcome
from drsft.report.cascade_counts import CascadePhase
from drsft.report.charts.drawing import Drawing, text_width
from drsft.report.wording import OUTCOME_NAMES, PHASE_NAMES, percent, plural

__all__ = ["draw_verdicts"]

ROW_HEIGHT = 58.0
BAR_HEIGHT = 26.0


def draw_verdicts(phases: Sequence[CascadePhase], *, width: float, css: str) -> Markup:
    drawing = Drawing(width, len(phases) * ROW_HEIGHT, label="Verdicts on the samples of each phase")
    for index, one in enumerate(phases):
        top = index * ROW_HEIGHT
        total = sum(one.outcomes.values())
        drawing.text(0, top + 14, PHASE_NAMES[one.phase], "name")
        drawing.text(width, top + 14, plural(total, "sample"), "muted", anchor="end")
        x = 0.0
        for outcome in Outcome:
            number = one.outcomes.get(outcome, 0)
            length = width * number / total if total else 0.0
            if not number:
                continue
            label = f"{OUTCOME_NAMES[outcome]} {percent(number / total, 0)}"
            tip = f"{OUTCOME_NAMES[outcome]}: {plural(number, 'sample')}, {percent(number / total)}"
            drawing.rect(x, top + 22, max(length - 1.5, 0.5), BAR_HEIGHT, f"share o-{outcome.value}", tip=tip)
            if text_width(label) + 12 < length:
                drawing.text(x + 8, top + 22 + BAR_HEIGHT / 2 + 4.5, label, "on-share")
            x += length
    return drawing.markup(css)
