"""A run in a screen: how many problems ended with which source, and what became of the samples.

Pure rendering, from the summaries that stand in the commits of a run's shards.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from drsft.records import Outcome, Source
from drsft.report.cascade_counts import kept_by_source
from drsft.report.terminal.style import OUTCOME_STYLES, SOURCE_STYLES, number_column, visible

__all__ = ["summary_view"]

_REASONS_SHOWN = 3  # of each outcome; the rest is counted together


def summary_view(run: str, summaries: Sequence[Mapping[str, Any]], *, num_problems: int) -> RenderableType:
    """The whole run in two tables, from the summaries in its shards' commits."""
    totals: dict[str, Counter[str]] = {}
    for summary in summaries:
        totals.setdefault("sources", Counter()).update(kept_by_source(summary))
        for name in ("carried", "samples", "tokens", "verdicts", "refusals", "checks", "pairs"):
            totals.setdefault(name, Counter()).update(summary.get(name, {}))
    num_records = totals["sources"].total()
    carried = totals["carried"]["problems"]
    from_before = f", {carried:,} of them carried over from the round before" if carried else ""
    head = Text.assemble(
        (visible(run), "bold"),
        f"  {num_records:,} of {num_problems:,} problems rewritten{from_before}",
        overflow="fold",
    )
    parts: list[RenderableType] = [head, *_provenance_lines(summaries), Text(), _sources_table(totals)]
    if totals["verdicts"]:
        parts += [Text(), _stages_table(totals)]
    return Group(*parts, *_check_lines(totals))


def _provenance_lines(summaries: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """One line for each engine and model that made shards: more than one is worth knowing."""
    lines = Counter(_provenance_line(one) for summary in summaries if (one := summary.get("provenance")))
    several = len(lines) > 1
    return [
        Text(visible(f"{line}  ({count} shards)" if several else line), style="dim")
        for line, count in lines.most_common()
    ]


def _provenance_line(provenance: Mapping[str, str]) -> str:
    versions = [
        f"{key.removesuffix('_version')} {value}"
        for key, value in provenance.items()
        if key.endswith("_version")
    ]
    model, fingerprint = provenance.get("target_model", "?"), provenance.get("target_fingerprint", "")
    return "  ".join(
        [f"target {model} {fingerprint}".strip(), f"drsft {provenance.get('version', '?')}", *versions]
    )


def _sources_table(totals: Mapping[str, Counter[str]]) -> Table:
    table = Table(
        Column("trained text"),
        number_column("problems"),
        number_column("share"),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    num_records = totals["sources"].total()
    for source in Source:
        count = totals["sources"][source.value]
        if not count:
            continue
        share = f"{count / num_records:.1%}" if num_records else ""
        table.add_row(Text(source.value, SOURCE_STYLES[source.value]), f"{count:,}", share)
    return table


def _stages_table(totals: Mapping[str, Counter[str]]) -> Table:
    """Samples of each stage by outcome, with the reasons that were given most."""
    table = Table(
        Column("samples"), Column("outcome"), number_column("count"), number_column("share"),
        Column("reasons", ratio=1, overflow="fold"),
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True,
    )  # fmt: skip
    for stage, num_samples in totals["samples"].items():
        name = Text.assemble(stage, (f"\n{totals['tokens'][stage]:,} tokens", "dim"))
        for outcome in Outcome:
            reasons = Counter(
                {
                    key.split("/", 2)[2]: count
                    for key, count in totals["verdicts"].items()
                    if key.startswith(f"{stage}/{outcome}/")
                }
            )
            if not reasons:
                continue
            label = Text(outcome.value.replace("_", " "), OUTCOME_STYLES[outcome])
            share = f"{reasons.total() / num_samples:.1%}"
            table.add_row(name, label, f"{reasons.total():,}", share, _reasons_in_brief(reasons))
            name = Text()
        table.add_section()
    return table


def _reasons_in_brief(reasons: Counter[str]) -> Text:
    shown = reasons.most_common(_REASONS_SHOWN)
    rest = reasons.total() - sum(count for _, count in shown)
    parts = [f"{visible(reason)} {count:,}" for reason, count in shown]
    return Text(", ".join([*parts, *([f"others {rest:,}"] if rest else [])]), style="dim")


def _check_lines(totals: Mapping[str, Counter[str]]) -> list[RenderableType]:
    """What is wrong although a verdict said correct, and what became of Hinted Decoding's pairs."""
    checks, refusals, pairs = totals["checks"], totals["refusals"], totals["pairs"]
    lines = []
    if refusals:
        lines.append(Text.assemble("right answers that were refused: ", _reasons_in_brief(refusals)))
    if num_read := checks["steps_read"]:
        lines.append(
            Text(
                f"guided solutions whose equations do not hold: {checks['steps_failed']:,} of {num_read:,} "
                "that nothing else speaks against"
            )
        )
    if contradicting := checks["contradicting"]:
        lines.append(Text(f"expert solutions that contradict the reference: {contradicting:,}"))
    if decoded := pairs["num_pairs"]:
        lines.append(
            Text(
                f"pairs of contexts decoded: {decoded:,}; done again after falling out of step: "
                f"{pairs['num_redone']:,}; decoded apart in the end: {pairs['num_apart']:,}"
            )
        )
    return [Text(), *lines] if lines else []
