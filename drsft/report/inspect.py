"""Records in the terminal: what a run holds, then problem by problem the expert's text beside what was kept.

Pure rendering: from records and shard summaries to rich renderables. Texts of the dataset and of the model
are never read as markup, and their control characters are shown rather than sent to the terminal.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from drsft.records import Attempt, Outcome, Record, Source

__all__ = ["matches", "record_view", "summary_view"]

_SOURCE_STYLES = {
    "own": "green",
    "rewritten": "cyan",
    "teacher": "magenta",
    "expert": "yellow",
    "dropped": "dim",
}
_OUTCOME_STYLES = {
    Outcome.CORRECT: "green",
    Outcome.WRONG: "red",
    Outcome.NO_ANSWER: "magenta",
    Outcome.TRUNCATED: "yellow",
    Outcome.UNJUDGED: "bold magenta",
}
_REASONS_SHOWN = 3  # of each outcome; the rest is counted together


def matches(
    record: Record, *, source: Source | None, outcome: Outcome | None, reason: str, problem_id: str
) -> bool:
    """Whether a record passes every filter; outcome and reason must meet in one attempt."""
    if source is not None and record.source is not source:
        return False
    if not record.problem.problem_id.startswith(problem_id):
        return False
    return not (outcome or reason) or any(
        (outcome is None or attempt.verdict.outcome is outcome)
        and reason.casefold() in attempt.verdict.reason.casefold()
        for attempt in record.attempts
    )


def summary_view(run: str, summaries: Sequence[Mapping[str, Any]], *, num_problems: int) -> RenderableType:
    """The whole run in two tables, from the summaries in its shards' commits."""
    totals: dict[str, Counter[str]] = {}
    for summary in summaries:
        for name in ("sources", "samples", "problems", "tokens", "verdicts"):
            totals.setdefault(name, Counter()).update(summary.get(name, {}))
    num_records = totals["sources"].total()
    head = Text.assemble(
        (_visible(run), "bold"), f"  {num_records:,} of {num_problems:,} problems rewritten", overflow="fold"
    )
    parts: list[RenderableType] = [head, *_provenance_lines(summaries), Text(), _sources_table(totals)]
    if totals["verdicts"]:
        parts += [Text(), _stages_table(totals)]
    return Group(*parts)


def record_view(record: Record, *, show_attempts: bool = False) -> RenderableType:
    """One problem: its question, expert and kept side by side, then the attempts, in brief or all of them."""
    problem = record.problem
    title = Text.assemble(
        (_visible(problem.problem_id), "bold"),
        "  ",
        (record.source.value, _SOURCE_STYLES[record.source.value]),
    )
    answer = Text.assemble(("reference ", "dim"), _visible(problem.reference))
    parts: list[RenderableType] = [
        Rule(title, align="left", style="dim"),
        Text(_visible(problem.question)),
        answer,
        Text(),
        _side_by_side(record),
        Text(),
        _attempts_in_brief(record),
    ]
    if show_attempts and record.attempts:
        parts += [Text(), _attempts_table(record)]
    return Padding(Group(*parts), (0, 0, 1, 0))


def _provenance_lines(summaries: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """One line for each engine and model that made shards: more than one is worth knowing."""
    lines = Counter(_provenance_line(one) for summary in summaries if (one := summary.get("provenance")))
    several = len(lines) > 1
    return [
        Text(_visible(f"{line}  ({count} shards)" if several else line), style="dim")
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
        _number("problems"),
        _number("share"),
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
        table.add_row(Text(source.value, _SOURCE_STYLES[source.value]), f"{count:,}", share)
    return table


def _stages_table(totals: Mapping[str, Counter[str]]) -> Table:
    """Samples of each stage by outcome, with the reasons that were given most."""
    table = Table(
        Column("samples"), Column("outcome"), _number("count"), _number("share"),
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
            label = Text(outcome.value.replace("_", " "), _OUTCOME_STYLES[outcome])
            share = f"{reasons.total() / num_samples:.1%}"
            table.add_row(name, label, f"{reasons.total():,}", share, _reasons_in_brief(reasons))
            name = Text()
        table.add_section()
    return table


def _reasons_in_brief(reasons: Counter[str]) -> Text:
    shown = reasons.most_common(_REASONS_SHOWN)
    rest = reasons.total() - sum(count for _, count in shown)
    parts = [f"{_visible(reason)} {count:,}" for reason, count in shown]
    return Text(", ".join([*parts, *([f"others {rest:,}"] if rest else [])]), style="dim")


def _side_by_side(record: Record) -> Table:
    table = Table(
        Column(ratio=1, overflow="fold"), Column(ratio=1, overflow="fold"),
        box=None, show_header=False, expand=True, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    expert = Text.assemble(("expert", "bold"), (f"  {len(record.expert_completion_ids):,} tokens", "dim"))
    table.add_row(expert, _kept_heading(record))
    kept = Text(_visible(record.text))
    if record.source is Source.EXPERT:
        kept = Text("the expert's text, as no sample passed", style="dim italic")
    table.add_row(Text(_visible(record.problem.demonstration)), kept)
    return table


def _kept_heading(record: Record) -> Text:
    heading = Text.assemble(("kept", "bold"), (f"  {len(record.completion_ids):,} tokens", "dim"))
    for attempt in record.attempts:
        rollout = attempt.rollout
        if attempt.verdict.is_correct and rollout.completion.token_ids == record.completion_ids:
            heading.append(f"\n{rollout.stage} {rollout.sample_index}, seed {rollout.seed}", "dim")
            return heading.append(f"\ncorrect: {_visible(attempt.verdict.reason)}", "green")
    return heading


def _attempts_in_brief(record: Record) -> Text:
    if not record.attempts:
        return Text("no sample was drawn", style="dim")
    counts: dict[str, Counter[tuple[Outcome, str]]] = {}
    for attempt in record.attempts:
        verdict = attempt.verdict
        counts.setdefault(attempt.rollout.stage, Counter())[verdict.outcome, verdict.reason] += 1
    text = Text(style="dim")
    for stage, verdicts in counts.items():
        text.append(f"{stage}: " if not text else f"; {stage}: ")
        parts = [
            Text.assemble(f"{count} ", (outcome.value, _OUTCOME_STYLES[outcome]), f" ({_visible(reason)})")
            for (outcome, reason), count in verdicts.most_common()
        ]
        text.append_text(Text(", ").join(parts))
    return text.append(f"; {record.num_sampled_tokens:,} tokens")


def _attempts_table(record: Record) -> Table:
    table = Table(
        Column("sample", no_wrap=True), Column("verdict"), Column("answer", overflow="fold", max_width=16),
        _number("tokens"), Column("text", ratio=1, overflow="fold"),
        box=box.SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for attempt in record.attempts:
        rollout, verdict = attempt.rollout, attempt.verdict
        table.add_row(
            Text.assemble(f"{rollout.stage} {rollout.sample_index}", (f"\nseed {rollout.seed}", "dim")),
            _verdict(attempt),
            Text(_visible(verdict.answer or "")),
            f"{len(rollout.completion.token_ids):,}",
            Text(_visible(rollout.completion.text)),
        )
    return table


def _verdict(attempt: Attempt) -> Text:
    verdict = attempt.verdict
    label = verdict.outcome.value.replace("_", " ")
    return Text.assemble((label, _OUTCOME_STYLES[verdict.outcome]), (f"\n{_visible(verdict.reason)}", "dim"))


def _number(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def _visible(text: str) -> str:
    """Control characters as their pictures: a text must not move the cursor or rename the terminal."""
    return "".join(
        _picture(char) if unicodedata.category(char) in ("Cc", "Cf") else char for char in text.strip()
    )


def _picture(char: str) -> str:
    if char in "\n\t":
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"<U+{code:04X}>"
