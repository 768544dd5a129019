"""Renders a run on one screen: how many problems ended with which source, and the verdicts on the samples.

It reads only the summaries in the commits of a run's shards.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from drsft.records import Outcome, Phase, Source
from drsft.report.terminal.style import OUTCOME_STYLES, SOURCE_STYLES, number_column, visible
from drsft.run.summary import ShardCounts, ShardSummary

__all__ = ["summary_view"]

_REASONS_SHOWN = 3  # of each outcome; the rest is counted together


def summary_view(run: str, summaries: Sequence[ShardSummary], *, num_problems: int) -> RenderableType:
    """Renders a run as two tables: kept rows by source, and samples by phase and outcome.

    `run` is the run's id, `summaries` are those in its shards' commits.
    """
    counts = ShardCounts.total(summary.counts for summary in summaries)
    carried = counts.num_carried_over
    from_before = f", {carried:,} of them carried over from the round before" if carried else ""
    head = Text.assemble(
        (visible(run), "bold"),
        f"  {counts.kept.total():,} of {num_problems:,} problems rewritten{from_before}",
        overflow="fold",
    )
    parts: list[RenderableType] = [head, *_provenance_lines(summaries), Text(), _sources_table(counts.kept)]
    if counts.verdicts:
        parts += [Text(), _phases_table(counts)]
    return Group(*parts, *_check_lines(counts))


def _provenance_lines(summaries: Sequence[ShardSummary]) -> list[RenderableType]:
    """Renders one line for each engine and model that sampled shards; there should be only one."""
    lines = Counter(_provenance_line(one.provenance) for one in summaries if one.provenance)
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


def _sources_table(kept: Counter[Source]) -> Table:
    table = Table(
        Column("trained text"),
        number_column("problems"),
        number_column("share"),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for source in Source:
        if count := kept[source]:
            share = f"{count / kept.total():.1%}"
            table.add_row(Text(source.value, SOURCE_STYLES[source.value]), f"{count:,}", share)
    return table


def _phases_table(counts: ShardCounts) -> Table:
    """Renders the samples of each phase by outcome, with the most frequent reasons."""
    table = Table(
        Column("samples"), Column("outcome"), number_column("count"), number_column("share"),
        Column("reasons", ratio=1, overflow="fold"),
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True,
    )  # fmt: skip
    for phase, num_samples in counts.samples.items():
        name = Text.assemble(phase.value, (f"\n{_tokens_in_brief(counts, phase)}", "dim"))
        for outcome in Outcome:
            reasons = Counter(
                {
                    judged.reason: count
                    for judged, count in counts.verdicts.items()
                    if judged.phase is phase and judged.outcome is outcome
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


def _tokens_in_brief(counts: ShardCounts, phase: Phase) -> str:
    num_tokens, num_thought = counts.tokens[phase], counts.thought_tokens[phase]
    thought = f",\n{num_thought:,} of them thoughts ({num_thought / num_tokens:.1%})" if num_thought else ""
    return f"{num_tokens:,} tokens{thought}"


def _reasons_in_brief(reasons: Counter[str]) -> Text:
    shown = reasons.most_common(_REASONS_SHOWN)
    rest = reasons.total() - sum(count for _, count in shown)
    parts = [f"{visible(reason)} {count:,}" for reason, count in shown]
    return Text(", ".join([*parts, *([f"others {rest:,}"] if rest else [])]), style="dim")


def _check_lines(counts: ShardCounts) -> list[RenderableType]:
    """Renders the problems found in correct samples, and the counts of Hinted Decoding's pairs."""
    lines = []
    if counts.rejections:
        reasons = _reasons_in_brief(Counter({str(one): n for one, n in counts.rejections.items()}))
        lines.append(Text.assemble("right answers that were rejected: ", reasons))
    if counts.num_steps_read:
        lines.append(
            Text(
                f"accepted guided solutions with a false equation: {counts.num_steps_failed:,} of "
                f"{counts.num_steps_read:,} whose equations could be read"
            )
        )
    if counts.num_contradicting:
        lines.append(Text(f"expert solutions that contradict the reference: {counts.num_contradicting:,}"))
    if counts.num_pairs:
        lines.append(
            Text(
                f"pairs of contexts decoded: {counts.num_pairs:,}; done again after falling out of step: "
                f"{counts.num_pairs_redone:,}; decoded apart in the end: {counts.num_pairs_apart:,}"
            )
        )
    return [Text(), *lines] if lines else []
