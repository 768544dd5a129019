"""What the verifier said: one stacked bar of verdicts for each stage."""

from collections.abc import Sequence

from markupsafe import Markup

from drsft.records import Outcome
from drsft.report.cascade_counts import CascadeStage
from drsft.report.charts.drawing import Drawing, text_width
from drsft.report.wording import OUTCOME_NAMES, percent, plural, stage_name

__all__ = ["draw_verdicts"]

ROW_HEIGHT = 58.0
BAR_HEIGHT = 26.0


def draw_verdicts(stages: Sequence[CascadeStage], *, width: float, css: str) -> Markup:
    drawing = Drawing(width, len(stages) * ROW_HEIGHT, label="Verdicts on the samples of each stage")
    for index, stage in enumerate(stages):
        top = index * ROW_HEIGHT
        total = sum(stage.outcomes.values())
        drawing.text(0, top + 14, stage_name(stage.name), "name")
        drawing.text(width, top + 14, plural(total, "sample"), "muted", anchor="end")
        x = 0.0
        for outcome in Outcome:
            number = stage.outcomes.get(outcome, 0)
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
