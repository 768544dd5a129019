"""Renders the report as one self-contained HTML page.

Every text from data is escaped (autoescape), and the page's content security policy allows only its own style
and script, by their hashes, and no network: so a <script> in a solution is shown as text. The templates
request the findings and charts that they show.
"""

import base64
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from drsft.gap.report import GapReport
from drsft.gap.scored_texts import PHI_THRESHOLDS
from drsft.records import Source
from drsft.report import progress, wording
from drsft.report.charts import bars, columns, curves, flow, intervals, probabilities, ridges
from drsft.report.charts.drawing import at_all_widths
from drsft.report.data import ReportData
from drsft.report.findings import cascade, costs, gap, later_rounds, ranking, training
from drsft.report.heat_colours import heat_class
from drsft.report.html.packed_rows import pack_rows

__all__ = [
    "arm_colours",
    "chart_style",
    "render",
    "render_gap",
    "render_page",
    "render_waiting",
    "style_sheet",
]

PALETTE_SIZE = 8  # entry 0 is grey and belongs to base
FILTERS: tuple[Callable[..., str], ...] = (
    wording.count, wording.decimal, wording.duration, wording.percent, wording.plural, wording.points,
    wording.work_name, ridges.group_name,
)  # fmt: skip
# The functions that templates may call, by module: charts and findings.
MODULES = (
    bars, columns, curves, flow, intervals, probabilities, ridges,
    cascade, costs, gap, later_rounds, progress, ranking, training,
)  # fmt: skip


def render(data: ReportData, *, is_live: bool = False) -> str:
    """Returns the report's page as HTML; write it as UTF-8. A live page polls its server for changes."""
    return render_page(
        "page.html.j2",
        data=data,
        **_script("script", "page.js.j2"),
        **(_script("live", "live.js.j2") if is_live else {"live": ""}),
        colours=arm_colours(data),
        sources=_sources_shown(data),
        rows=pack_rows(data.rows),
    )


def render_waiting(name: str) -> str:
    """Returns a live page for a run whose problems are still being read; it shows the progress of the
    stages.
    """
    return render_page("waiting.html.j2", name=name, **_script("live", "live.js.j2"))


def render_gap(report: GapReport, *, title: str) -> str:
    """Returns an HTML page that contains only the gap report."""
    return render_page("gap_page.html.j2", title=title, gap=report, filtered=())


def render_page(template: str, **parts: object) -> str:
    """Returns the HTML of a Jinja template filled with the given values, in the style of all pages."""
    style = style_sheet()
    page = _environment().get_template(template)
    return page.render(style=Markup(style), style_hash=_content_hash(style), **parts)


def _script(name: str, template: str) -> dict[str, object]:
    """Returns the parts of a page that hold a script, and its hash for the content security policy."""
    script = _environment().get_template(template).render()
    # These files contain no data, so they are not escaped; the hash is over exactly this text.
    return {name: Markup(script), f"{name}_hash": _content_hash(script)}


def style_sheet() -> str:
    return _environment().get_template("page.css.j2").render(palette_size=PALETTE_SIZE)


def chart_style() -> str:
    """Returns the part of the style sheet that colours the charts, whose variables are defined in the
    rest.
    """
    return _environment().get_template("charts.css.j2").render(palette_size=PALETTE_SIZE)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in FILTERS})
    for module in MODULES:
        environment.globals.update({name: getattr(module, name) for name in module.__all__})
    environment.globals.update(
        chart=at_all_widths,
        interval=wording.interval,
        outcome_names=wording.OUTCOME_NAMES,
        phase_names=wording.PHASE_NAMES,
        source_names=wording.SOURCE_NAMES,
        heat_class=heat_class,
        phi_thresholds=PHI_THRESHOLDS,
    )
    return environment


def _content_hash(text: str) -> str:
    """Returns the hash as content security policies write it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def arm_colours(data: ReportData) -> dict[str, int]:
    """Returns the index of each arm's colour in the palette, the same in every chart.

    If there are more arms than colours, arms with the same objective share one.
    """
    pairs = [(row.arm, row.objective) for row in data.comparison]
    pairs += [(curve.arm, curve.objective) for curve in data.losses]
    names = [arm for arm, _ in pairs] + [one.arm for one in data.probabilities]
    trained = [arm for arm in dict.fromkeys(names) if arm != "base"]
    objectives = {arm: objective for arm, objective in pairs if objective}
    shared = trained if len(trained) < PALETTE_SIZE else [objectives.get(arm, "") for arm in trained]
    entry = {name: 1 + index % (PALETTE_SIZE - 1) for index, name in enumerate(dict.fromkeys(shared))}
    return {"base": 0} | {arm: entry[name] for arm, name in zip(trained, shared, strict=True)}


def _sources_shown(data: ReportData) -> list[Source]:
    """Returns the sources own, rewritten and expert, and the others if the run has them."""
    always = {Source.OWN, Source.REWRITTEN, Source.EXPERT}
    counts = data.cascade.sources if data.cascade else {}
    return [source for source in Source if source in always or counts.get(source)]
