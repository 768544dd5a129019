"""The report's charts as files for papers: SVG with its colours inside, and PNG where resvg is installed."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from drsft.errors import ConfigError
from drsft.report.charts.curves import draw_losses, merge_seeds
from drsft.report.charts.dumbbells import draw_effective_samples
from drsft.report.charts.flow import draw_flow
from drsft.report.charts.intervals import draw_intervals
from drsft.report.charts.probabilities import draw_probabilities
from drsft.report.charts.ridges import draw_logprob_ridges, draw_phi_ridges, shown_groups
from drsft.report.charts.shares import draw_verdicts
from drsft.report.data import ReportData
from drsft.report.findings import ranking
from drsft.report.html.page import arm_colours, style_sheet

__all__ = ["draw_plots", "write_plots"]

WIDTH = 600.0
PNG_ZOOM = 3  # 1,800 pixels: 300 dpi at six inches
FONTS = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
_RULE = re.compile(r"^(svg [^{]+)\{([^}]+)\}", re.MULTILINE)
_COLOUR_CLASS = re.compile(r"^\.([cso][\w-]+) \{ --c: var\(--([\w-]+)\); \}", re.MULTILINE)
_VARIABLE = re.compile(r"--([\w-]+): ([^;]+);")


def write_plots(data: ReportData, folder: Path) -> Iterator[Path]:
    """One SVG and one PNG for each chart that the run has. Raises ConfigError without the extra."""
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
    """Each chart as a whole SVG document, by the name of its file."""
    return {name: _document(chart) for name, chart in _charts(data)}


class Size(TypedDict):
    width: float
    css: str


def _charts(data: ReportData) -> Iterator[tuple[str, Markup]]:
    size: Size = {"width": WIDTH, "css": "chart"}
    colours = arm_colours(data)
    for benchmark, rows in ranking.benchmarks_of(data.comparison).items():
        yield f"scores-{benchmark}", draw_intervals(rows, colours, **size)
    cascade = data.cascade
    if cascade is not None and cascade.num_kept and cascade.phases:
        yield "flow", draw_flow(cascade, **size)
        judged = [one for one in cascade.phases if one.outcomes]
        if judged:
            yield "verdicts", draw_verdicts(judged, **size)
    if data.gap is not None and data.gap.summary.groups:
        summary = data.gap.summary
        shown = shown_groups(summary.groups)
        before, after = summary.group("demonstrations"), summary.group("kept") or summary.groups[0]
        yield "gap-logprob", draw_logprob_ridges(shown, **size)
        yield "gap-phi", draw_phi_ridges(shown, **size)
        yield "effective-samples", draw_effective_samples(before, after, **size)
    curves = merge_seeds(data.losses)
    if curves:
        yield "training", draw_losses(curves, colours, **size)
    if data.probabilities:
        arms = data.probabilities
        yield "probabilities", draw_probabilities(arms, colours, **size)


def _document(chart: Markup) -> str:
    """A chart with what makes it stand alone: its namespace, its size and its style."""
    found = re.match(r'<svg class="chart" viewBox="0 0 (\S+) (\S+)"([^>]*)>', chart)
    if found is None:
        raise ValueError(f"not a chart: {chart[:80]}")
    width, height, rest = found.groups()
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
    return f"{head}{rest}><style>{_style()}</style>{chart[found.end() :]}"


@cache
def _style() -> str:
    """The page's rules for charts in its light colours, without variables: few programs know those."""
    sheet = style_sheet()
    light = dict(_VARIABLE.findall(sheet.partition("}")[0]))
    classes = {name: light[colour] for name, colour in _COLOUR_CLASS.findall(sheet) if colour in light}
    rules = [f"text {{ font-family: {FONTS}; font-size: 13px; }}"]
    for selectors, body in _RULE.findall(sheet):
        if "var(--c)" not in body:
            rules.append(f"{selectors}{{{_resolved(body, light)}}}")
            continue
        for name, colour in classes.items():
            chosen = ", ".join(f"{one.strip()}.{name}" for one in selectors.split(","))
            rules.append(f"{chosen} {{{_resolved(body.replace('var(--c)', colour), light)}}}")
    return "\n".join(rules)


def _resolved(body: str, colours: dict[str, str]) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], body)
