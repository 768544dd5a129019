"""Writes the report's charts as files for papers: SVG with its colours inside, and PNG if resvg is
installed.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from drsft.errors import ConfigError
from drsft.report.charts.bars import draw_verdicts
from drsft.report.charts.columns import draw_answer_logprobs
from drsft.report.charts.curves import draw_losses, merge_seeds
from drsft.report.charts.drawing import FONT_SIZE, Drawing
from drsft.report.charts.flow import draw_flow
from drsft.report.charts.intervals import draw_effective_samples, draw_scores
from drsft.report.charts.probabilities import draw_probabilities
from drsft.report.charts.ridges import draw_logprob_ridges, draw_phi_ridges, shown_groups
from drsft.report.data import ReportData
from drsft.report.findings import ranking
from drsft.report.html.page import arm_colours, chart_style, style_sheet

__all__ = ["draw_plots", "write_plots"]

WIDTH = 600.0
PNG_ZOOM = 3  # 1,800 pixels: 300 dpi at six inches
FONTS = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


def write_plots(data: ReportData, folder: Path) -> Iterator[Path]:
    """Writes an SVG and a PNG for each chart of the run, and yields the path of each file once it is written.

    Raises ConfigError if resvg is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise ConfigError("--plots draws PNG with resvg: pip install 'drsft[plots]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in draw_plots(data).items():
        path = folder / f"{name}.svg"
        path.write_text(svg, encoding="utf-8")
        yield path
        path = path.with_suffix(".png")
        path.write_bytes(bytes(svg_to_bytes(svg_string=svg, zoom=PNG_ZOOM, background="white")))
        yield path


def draw_plots(data: ReportData) -> dict[str, str]:
    """Returns each chart as a whole SVG document, by its name, such as "flow" (without .svg)."""
    return {name: _document(chart) for name, chart in _charts(data)}


def _charts(data: ReportData) -> Iterator[tuple[str, Drawing]]:
    colours = arm_colours(data)
    for benchmark, rows in ranking.benchmarks_of(data.comparison).items():
        yield f"scores-{benchmark}", draw_scores(rows, colours, width=WIDTH)
    cascade = data.cascade
    if cascade is not None and cascade.num_kept and cascade.phases:
        yield "flow", draw_flow(cascade, width=WIDTH)
        if judged := [one for one in cascade.phases if one.outcomes]:
            yield "verdicts", draw_verdicts(judged, width=WIDTH)
    if data.grounding is not None:
        yield "grounding", draw_answer_logprobs(data.grounding, width=WIDTH)
    if data.gap is not None and data.gap.summary.groups:
        summary = data.gap.summary
        shown = shown_groups(summary.groups)
        before, after = summary.group("demonstrations"), summary.group("kept") or summary.groups[0]
        yield "gap-logprob", draw_logprob_ridges(shown, width=WIDTH)
        yield "gap-phi", draw_phi_ridges(shown, width=WIDTH)
        yield "effective-samples", draw_effective_samples(before, after, width=WIDTH)
    if curves := merge_seeds(data.losses):
        yield "training", draw_losses(curves, colours, width=WIDTH)
    if data.probabilities:
        yield "probabilities", draw_probabilities(data.probabilities, colours, width=WIDTH)


def _document(chart: Drawing) -> str:
    """Returns a chart with its namespace, size and style, as a file of its own needs them."""
    size = f'width="{chart.width:g}" height="{chart.height:g}"'
    svg = str(chart.markup(f'xmlns="http://www.w3.org/2000/svg" {size}'))
    return svg.replace(">", f"><style>{_style()}</style>", 1)


@cache
def _style() -> str:
    """Returns the page's rules for charts in its light colours, without variables, which few programs
    support.
    """
    light = dict(re.findall(r"--([\w-]+): ([^;]+);", style_sheet().partition("}")[0]))
    rules = re.sub(r"var\(--([\w-]+)\)", lambda found: light[found[1]], chart_style())
    return f"text {{ font-family: {FONTS}; font-size: {FONT_SIZE:g}px; }}\n{rules}"
