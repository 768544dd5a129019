"""Draws the flow of problems through the cascade: each phase's bar, what it solved, what it passed on."""

from drsft.records import Phase, Source
from drsft.report.cascade_counts import Cascade
from drsft.report.charts.drawing import NARROW, Drawing, Point
from drsft.report.wording import PHASE_NAMES, SOURCE_NAMES, count, percent, plural

__all__ = ["draw_flow"]

BAR_WIDTH = 10.0
FLOW_HEIGHT = 220.0  # of all problems
GAP = 44.0  # between branches: room for two lines of text
TOP = 40.0
SOURCE_OF_PHASE = {
    Phase.SELF_ALIGN: Source.OWN,
    Phase.GUIDED: Source.REWRITTEN,
    Phase.HINTED: Source.HINTED,
    Phase.TEACHER: Source.TEACHER,
    Phase.TEACHER_GUIDED: Source.REWRITTEN,
}


def draw_flow(cascade: Cascade, *, width: float) -> Drawing:
    """Draws the phases left to right: solved problems flow to the right edge, others to the next phase."""
    phases = [one for one in cascade.solving_phases if not one.is_separate]
    total = max(phases[0].num_problems, 1)
    right = width - (136.0 if width < NARROW else 180.0)
    spacing = (right - BAR_WIDTH) / max(len(phases), 1)
    height = TOP + FLOW_HEIGHT + len(phases) * GAP + 10
    drawing = Drawing(
        width, height, label="Flow of problems through the cascade, by where the kept text is from"
    )
    y = TOP
    for index, one in enumerate(phases):
        x = index * spacing
        solved = FLOW_HEIGHT * one.num_solved / total
        left_over = FLOW_HEIGHT * (one.num_problems - one.num_solved) / total
        is_last = index == len(phases) - 1
        source = SOURCE_OF_PHASE.get(one.phase, Source.OWN)
        _ribbon(drawing, (x + BAR_WIDTH, y), (right, y), solved, f"s-{source.value}")
        below = y + solved + GAP
        onward = right if is_last else x + spacing
        next_css = "s-expert" if is_last else "s-pending"
        _ribbon(drawing, (x + BAR_WIDTH, y + solved), (onward, below), left_over, next_css)
        drawing.rect(x, y, BAR_WIDTH, max(solved + left_over, 2), "bar")
        drawing.text(x, y - 22, PHASE_NAMES[one.phase], "name")
        drawing.text(x, y - 6, plural(one.num_problems, "problem"), "muted")
        cost = one.tokens_per_solved
        note = "" if cost is None else f"{count(cost)} tokens a row"
        _end(drawing, cascade, source, one.num_solved, note, (right, y), solved)
        y = below
    # Not the last phase's remainder: a problem without a usable guide skips a phase.
    num_left = cascade.ends.get(Source.EXPERT, 0) + cascade.ends.get(Source.DROPPED, 0)
    last = Source.DROPPED if cascade.ends.get(Source.DROPPED) else Source.EXPERT
    _end(drawing, cascade, last, num_left, "none was accepted", (right, y), FLOW_HEIGHT * num_left / total)
    return drawing


def _ribbon(drawing: Drawing, start: Point, end: Point, thickness: float, css: str) -> None:
    if thickness <= 0:
        return
    (x0, y0), (x1, y1) = start, end
    bend, lower0, lower1 = (x0 + x1) / 2, y0 + thickness, y1 + thickness
    drawing.path(
        f"M{x0:.1f} {y0:.1f}C{bend:.1f} {y0:.1f} {bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        f"V{lower1:.1f}C{bend:.1f} {lower1:.1f} {bend:.1f} {lower0:.1f} {x0:.1f} {lower0:.1f}Z",
        f"ribbon {css}",
    )


def _end(
    drawing: Drawing,
    cascade: Cascade,
    source: Source,
    num_rows: int,
    note: str,
    corner: Point,
    thickness: float,
) -> None:
    x, y = corner
    num_problems = sum(cascade.ends.values())
    share = num_rows / num_problems if num_problems else 0.0
    drawing.rect(x, y, BAR_WIDTH, max(thickness, 2), f"end s-{source.value}")
    middle = y + max(thickness, 2) / 2
    text_x = x + BAR_WIDTH + 8
    drawing.text(text_x, middle - 3, f"{SOURCE_NAMES[source]} {percent(share, 0)}", "name")
    drawing.text(text_x, middle + 14, note or plural(num_rows, "row"), "muted")
