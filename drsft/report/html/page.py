"""The report as one HTML page that needs nothing beside itself.

Every text from data is escaped (autoescape), and the page's content security policy allows only its own style
and script, by their hashes, and no network: a solution that holds a <script> is text on both accounts.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from drsft.gap.report import GapReport
from drsft.gap.scored_texts import PHI_THRESHOLDS
from drsft.records import Source
from drsft.report import wording
from drsft.report.charts import WIDTHS
from drsft.report.charts.bars import Bar, draw_bars
from drsft.report.charts.curves import draw_losses, merge_seeds, panels
from drsft.report.charts.dumbbells import draw_effective_samples
from drsft.report.charts.flow import draw_flow
from drsft.report.charts.intervals import draw_intervals
from drsft.report.charts.probabilities import draw_probabilities
from drsft.report.charts.ridges import draw_logprob_ridges, draw_phi_ridges, group_name, shown_groups
from drsft.report.charts.shares import draw_verdicts
from drsft.report.data import ComparisonRow, ReportData
from drsft.report.findings import cascade as cascade_findings
from drsft.report.findings import gap as gap_findings
from drsft.report.findings import ranking
from drsft.report.findings.cascade import Finding
from drsft.report.heat import heat_class
from drsft.report.html.payload import pack_rows

__all__ = ["arm_colours", "at_all_widths", "render", "render_gap", "render_page", "style_sheet"]

PALETTE_SIZE = 8  # entry 0 is grey and belongs to base
LOSS_TABLE_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPart:
    name: str
    rows: list[ComparisonRow]
    best: ComparisonRow
    base: ComparisonRow | None
    finding: Finding
    chart: Markup


def render(data: ReportData, *, is_live: bool = False) -> str:
    """The whole page as HTML text (UTF-8 when written). A live one looks for news where it came from."""
    environment = _environment()
    style = style_sheet()
    script = environment.get_template("page.js.j2").render()
    live = environment.get_template("live.js.j2").render() if is_live else ""
    colours = arm_colours(data)
    return environment.get_template("page.html.j2").render(
        data=data,
        headline=ranking.headline(data),
        # None of the files holds data, so they may stand unescaped; the hashes are over exactly this text.
        style=Markup(style),
        script=Markup(script),
        style_hash=_content_hash(style),
        script_hash=_content_hash(script),
        live=Markup(live),
        live_hash=_content_hash(live),
        standing=cascade_findings.standing_sentence(data.progress),
        colours=colours,
        pairs_finding=ranking.pairs_finding(data.differences),
        pairs_shown=ranking.pairs_to_show(data),
        benchmarks=_benchmark_parts(data, colours),
        sources=_sources_shown(data),
        rounds_finding=cascade_findings.rounds_finding(data.rounds),
        **_flow_part(data),
        rows=pack_rows(data.rows),
        num_kept=data.cascade.num_kept if data.cascade else 0,
        **_cost_part(data),
        filtered=data.filtered,
        **_gap_part(data.gap),
        **_loss_part(data, colours),
        **_probability_part(data, colours),
    )


def render_gap(report: GapReport, *, title: str) -> str:
    """The gap report alone, as a page of its own."""
    return render_page("gap_page.html.j2", title=title, filtered=(), **_gap_part(report))


def render_page(template: str, **parts: object) -> str:
    """A page without a script of its own."""
    environment = _environment()
    style = style_sheet()
    page = environment.get_template(template)
    return page.render(style=Markup(style), style_hash=_content_hash(style), **parts)


def style_sheet() -> str:
    return _environment().get_template("page.css.j2").render(palette_size=PALETTE_SIZE)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: tuple[Callable[..., str], ...] = (
        wording.count,
        wording.decimal,
        wording.duration,
        wording.percent,
        wording.plural,
        wording.points,
        wording.work_name,
        group_name,
    )
    environment.filters.update({function.__name__: function for function in filters})
    environment.globals.update(
        interval=wording.interval,
        outcome_names=wording.OUTCOME_NAMES,
        phase_names=wording.PHASE_NAMES,
        source_names=wording.SOURCE_NAMES,
        heat_class=heat_class,
        phi_thresholds=PHI_THRESHOLDS,
    )
    return environment


def _content_hash(text: str) -> str:
    """As content security policies write it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def at_all_widths(draw: Callable[[float, str], Markup]) -> Markup:
    """The same chart in every width; the style sheet shows the one that fits."""
    return Markup("\n").join(draw(width, f"chart {name}") for name, width in WIDTHS.items())


def arm_colours(data: ReportData) -> dict[str, int]:
    """A palette entry for each arm, the same in every chart; of each objective, if there are too few."""
    names = [row.arm for row in data.comparison]
    names += [curve.arm for curve in data.losses]
    names += [one.arm for one in data.probabilities]
    trained = [arm for arm in dict.fromkeys(names) if arm != "base"]
    kinds = dict.fromkeys(trained, "") | _objectives(data)
    shared = trained if len(trained) < PALETTE_SIZE else [kinds[arm] for arm in trained]
    entry = {name: 1 + index % (PALETTE_SIZE - 1) for index, name in enumerate(dict.fromkeys(shared))}
    return {"base": 0} | {arm: entry[name] for arm, name in zip(trained, shared, strict=True)}


def _objectives(data: ReportData) -> dict[str, str]:
    of_rows = {row.arm: row.objective for row in data.comparison if row.objective}
    return of_rows | {curve.arm: curve.objective for curve in data.losses if curve.objective}


def _benchmark_parts(data: ReportData, colours: dict[str, int]) -> list[BenchmarkPart]:
    parts = []
    for name, rows in ranking.benchmarks_of(data.comparison).items():

        def draw(width: float, css: str, rows: list[ComparisonRow] = rows) -> Markup:
            return draw_intervals(rows, colours, width=width, css=css)

        finding = ranking.standing_finding(data, rows)
        parts.append(
            BenchmarkPart(
                name=name,
                rows=rows,
                best=ranking.best_of(rows),
                base=next((row for row in rows if row.arm == "base"), None),
                finding=finding,
                chart=at_all_widths(draw),
            )
        )
    return parts


def _flow_part(data: ReportData) -> dict[str, object]:
    cascade = data.cascade
    if cascade is None or not cascade.num_kept:
        absent = ("flow_finding", "flow_chart", "steps_finding", "lockstep_finding", "verdict_chart")
        return dict.fromkeys(absent)
    phases = cascade.phases
    judged = [one for one in cascade.solving_phases if one.outcomes]
    return {
        "verdict_finding": cascade_findings.verdict_finding(judged),
        "judged_phases": judged,
        "flow_finding": cascade_findings.flow_finding(cascade),
        "steps_finding": cascade_findings.steps_finding(cascade),
        "lockstep_finding": cascade_findings.lockstep_finding(cascade),
        "flow_chart": phases and at_all_widths(lambda width, css: draw_flow(cascade, width=width, css=css)),
        "verdict_chart": judged
        and at_all_widths(lambda width, css: draw_verdicts(judged, width=width, css=css)),
    }


def _cost_part(data: ReportData) -> dict[str, object]:
    bars = [
        Bar(name=wording.work_name(cost.name), value=cost.worker_s, text=wording.duration(cost.worker_s))
        for cost in data.costs
        if cost.worker_s is not None
    ]
    label = "Workers' time by stage"
    return {
        "cost_finding": cascade_findings.cost_finding(data.costs, data.prices, data.cascade),
        "cost_chart": bars
        and at_all_widths(lambda width, css: draw_bars(bars, label=label, width=width, css=css)),
    }


def _gap_part(report: GapReport | None) -> dict[str, object]:
    if report is None or not report.summary.groups:
        return {"gap": None, "gap_finding": None, "gap_groups": []}
    summary = report.summary
    shown = shown_groups(summary.groups)
    before, after = summary.group("demonstrations"), summary.group("kept") or summary.groups[0]
    return {
        "gap": report,
        "gap_finding": gap_findings.gap_finding(report.summary),
        "gap_chart": at_all_widths(lambda width, css: draw_logprob_ridges(shown, width=width, css=css)),
        "phi_chart": at_all_widths(lambda width, css: draw_phi_ridges(shown, width=width, css=css)),
        "gap_groups": shown,
        "phi_finding": gap_findings.phi_finding(summary),
        "weight_finding": gap_findings.weight_finding(summary),
        "has_before": before is not None,
        "weight_chart": at_all_widths(
            lambda width, css: draw_effective_samples(before, after, width=width, css=css)
        ),
        "gap_advice": gap_findings.gap_advice(report),
    }


def _loss_part(data: ReportData, colours: dict[str, int]) -> dict[str, object]:
    curves = merge_seeds(data.losses)
    if not curves:
        return {"loss_finding": None, "loss_chart": None, "loss_legend": {}, "loss_table": []}
    has_panels = len(panels(curves)) > 1
    return {
        "loss_finding": cascade_findings.loss_finding(data.losses),
        "loss_chart": at_all_widths(lambda width, css: draw_losses(curves, colours, width=width, css=css)),
        "loss_legend": {curve.objective if has_panels else curve.arm: colours[curve.arm] for curve in curves},
        "loss_table": merge_seeds(data.losses, max_points=LOSS_TABLE_ROWS),
    }


def _probability_part(data: ReportData, colours: dict[str, int]) -> dict[str, object]:
    arms = data.probabilities
    return {
        "probability_finding": cascade_findings.probability_finding(arms),
        "probability_chart": arms
        and at_all_widths(lambda width, css: draw_probabilities(arms, colours, width=width, css=css)),
    }


def _sources_shown(data: ReportData) -> list[Source]:
    """The three of every cascade, and the others where a run has them."""
    always = {Source.OWN, Source.REWRITTEN, Source.EXPERT}
    counts = data.cascade.sources if data.cascade else {}
    return [source for source in Source if source in always or counts.get(source)]
