"""Renders the gap report for the terminal, as rich renderables."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from drsft.gap.report import GapReport, HeatMap, Token
from drsft.gap.scored_texts import PHI_THRESHOLDS
from drsft.gap.summary import SourceGap
from drsft.report.charts.ridges import group_name, shown_groups
from drsft.report.findings.gap import gap_advice, gap_finding
from drsft.report.heat_colours import heat_style
from drsft.report.terminal.style import number_column, visible

__all__ = ["gap_view", "heat_text", "heat_view"]

NUM_UNLIKELY_SHOWN = 5


def gap_view(report: GapReport) -> RenderableType:
    """Renders the groups of texts, the weights and the outlying rows; the recommendation comes last, where it
    is visible without scrolling.
    """
    groups = shown_groups(report.summary.groups)
    parts: list[RenderableType] = [Text(gap_finding(report.summary).sentence)]
    if groups:
        parts += [_groups_table(groups), _weights_table(groups)]
    parts += [_heat_line(heat) for heat in report.heat_maps if heat.row.why == "farthest"]
    parts += _far_lines(report)
    advice = gap_advice(report)
    if advice is not None and report.recommendation is not None:
        parts += [Text(), Text(advice.sentence, "bold")]
        parts += [Text(f"- {reason}") for reason in report.recommendation.reasons]
        parts += [Text(f"limit: {limit}", "dim") for limit in report.recommendation.limits]
    return Group(*parts)


def heat_view(heat_maps: Sequence[HeatMap]) -> RenderableType:
    """Renders the texts of one row token by token; below each, its tokens of lowest phi with their values."""
    parts: list[RenderableType] = [_legend()]
    for heat in heat_maps:
        row = heat.row
        head = Text.assemble(
            (row.role.value, "bold"),
            (
                f"  {visible(row.source)}, {len(heat.tokens):,} tokens, "
                f"φ̄ {row.mean_phi:+.3f}, log-prob {row.mean_logprob:.3f}",
                "dim",
            ),
        )
        parts += [Text(), head, heat_text(heat.tokens), _unlikely_line(heat.tokens)]
    return Group(*parts)


def _legend() -> Text:
    """Renders what the background colours mean."""
    shades = [(f" below {threshold} ", heat_style(threshold - 0.5)) for threshold in PHI_THRESHOLDS]
    return Text.assemble(("φ of a token, nats:", "dim"), *(part for shade in shades for part in (" ", shade)))


def _unlikely_line(tokens: Sequence[Token]) -> Text:
    """Lists the tokens of lowest phi, for terminals without colours."""
    lowest = sorted((token for token in tokens if token.phi < PHI_THRESHOLDS[0]), key=lambda token: token.phi)
    if not lowest:
        return Text(f"no token with φ below {PHI_THRESHOLDS[0]}", style="dim")
    shown = [f"{visible(token.text)!r} {token.phi:+.1f}" for token in lowest[:NUM_UNLIKELY_SHOWN]]
    rest = len(lowest) - len(shown)
    return Text(f"lowest φ: {', '.join(shown)}{f' and {rest:,} more' if rest else ''}", style="dim")


def heat_text(tokens: Sequence[Token]) -> Text:
    """Renders tokens as one text, in which each token's background colour shows its phi."""
    return Text.assemble(*((visible_token(token.text), heat_style(token.phi)) for token in tokens))


def visible_token(text: str) -> str:
    """Returns the text with control characters as visible symbols.

    Unlike `visible`, it keeps the white space around the text.
    """
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return f"{text[:start]}{visible(core)}{text[start + len(core) :]}"


def _groups_table(groups: Sequence[SourceGap]) -> Table:
    below = [number_column(f"{threshold}") for threshold in PHI_THRESHOLDS]
    table = Table(
        Column("group", no_wrap=True), number_column("rows"), number_column("tokens"),
        number_column("log-prob"), number_column("ppl"), number_column("φ̄"), *below,
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False,
        caption="tokens a row; log-prob and φ̄ in nats a token (95 %); right: % of tokens with φ below",
    )  # fmt: skip
    for group in groups:
        half = "" if group.high_phi is None else f" ±{group.high_phi - group.mean_phi:.3f}"
        table.add_row(
            group_name(group.name),
            f"{group.num_rows:,}",
            f"{group.mean_length:.1f}",
            f"{group.mean_logprob:.3f}",
            f"{group.perplexity:.2f}",
            f"{group.mean_phi:+.3f}{half}",
            *(f"{100 * share:.1f}" for share in group.phi_below),
        )
        for part in group.parts:
            length = part.num_tokens / group.num_rows
            cells = f"{length:.1f}", f"{part.mean_logprob:.3f}", "", f"{part.mean_phi:+.3f}"
            table.add_row(f"  {part.name}", "", *cells, style="dim")
    return table


def _weights_table(groups: Sequence[SourceGap]) -> Table:
    """Renders the effective sample of each objective on each group."""
    table = Table(
        Column("objective", no_wrap=True), *(number_column(group.name) for group in groups),
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False,
        caption="effective sample: % of the tokens that an objective's weights leave in effect",
    )  # fmt: skip
    for weight in groups[0].weights:
        found = [group.weight(weight.objective) for group in groups]
        cells = ["" if one is None else f"{100 * one.effective_sample_share:.1f}" for one in found]
        table.add_row(weight.objective, *cells)
    return table


def _heat_line(heat: HeatMap) -> Text:
    row = heat.row
    head = f"\n{row.role.value}, {row.source}, {row.why} ({row.row_id}, φ̄ {row.mean_phi:+.2f}): "
    return Text.assemble((head, "dim"), heat_text(heat.tokens))


def _far_lines(report: GapReport) -> list[RenderableType]:
    far = report.far_out
    if far is None or not far.num_rows:
        return []
    sources = ", ".join(f"{count:,} {visible(source)}" for source, count in far.by_source.items())
    worst = ", ".join(f"{visible(row.row_id)} ({row.mean_phi:+.2f})" for row in far.worst[:5])
    return [
        Text(
            f"\n{far.num_rows:,} kept rows are far out, φ̄ below {far.limit:.2f} ({sources}); "
            f"farthest: {worst}"
        )
    ]
