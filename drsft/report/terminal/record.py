"""Renders records for the terminal: the expert's text beside the kept one, with the reasons.

Texts of the dataset and of the model are never read as markup, and their control characters are shown rather
than sent to the terminal.
"""

from collections import Counter

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from drsft.records import Attempt, Outcome, Phase, Record, Source, ThoughtPart
from drsft.report.terminal.style import OUTCOME_STYLES, SOURCE_STYLES, number_column, visible
from drsft.report.wording import dropped_because
from drsft.rewrite.contradiction import contradicts

__all__ = ["matches", "record_view"]


def matches(
    record: Record, *, source: Source | None, outcome: Outcome | None, reason: str, problem_id: str
) -> bool:
    """Returns whether a record matches every filter; None and "" match all records.

    One attempt must match both `outcome` and `reason`, a part of its reason; `problem_id` is the id's start.
    """
    if source is not None and record.source is not source:
        return False
    if not record.problem.problem_id.startswith(problem_id):
        return False
    return not (outcome or reason) or any(
        (outcome is None or attempt.verdict.outcome is outcome)
        and reason.casefold() in f"{attempt.verdict.reason}\n{attempt.rejection or ''}".casefold()
        for attempt in record.attempts
    )


def record_view(record: Record, *, show_attempts: bool = False) -> RenderableType:
    """Renders one problem: question, expert and kept text side by side, then the attempts in brief or in
    full.
    """
    problem = record.problem
    title = Text.assemble(
        (visible(problem.problem_id), "bold"),
        "  ",
        (record.source.value, SOURCE_STYLES[record.source.value]),
    )
    answer = Text.assemble(("reference ", "dim"), visible(problem.reference))
    parts: list[RenderableType] = [
        Rule(title, align="left", style="dim"),
        Text(visible(problem.question_by_role)),
        answer,
        Text(),
        _side_by_side(record),
        Text(),
        _attempts_in_brief(record),
    ]
    if show_attempts and record.attempts:
        parts += [Text(), _attempts_table(record)]
    return Padding(Group(*parts), (0, 0, 1, 0))


def _side_by_side(record: Record) -> Table:
    table = Table(
        Column(ratio=1, overflow="fold"), Column(ratio=1, overflow="fold"),
        box=None, show_header=False, expand=True, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    table.add_row(_expert_heading(record), _kept_heading(record))
    kept = Text.assemble(_thought(record.thought), visible(record.text))
    if record.source is Source.EXPERT:
        kept = Text("the expert's text, as no sample was accepted", style="dim italic")
    elif record.source is Source.DROPPED:
        kept = Text(f"nothing: {dropped_because(record)}", style="dim italic")
    table.add_row(Text(visible(record.problem.demonstration)), kept)
    return table


def _thought(thought: ThoughtPart | None) -> Text:
    """Renders a thought dimmed, above the answer's text; nothing if there is none."""
    if thought is None or not thought.text:
        return Text()
    says = "thought" if thought.is_closed else "thought, never closed"
    return Text(f"{says}, {thought.num_tokens:,} tokens\n{visible(thought.text)}\n\n", style="dim")


def _expert_heading(record: Record) -> Text:
    heading = Text.assemble(("expert", "bold"), (f"  {len(record.expert_completion_ids):,} tokens", "dim"))
    verdict = record.expert_verdict
    if verdict is not None and contradicts(record.problem, verdict):
        says = f" (it says {visible(verdict.answer)})" if verdict.answer else ""
        heading.append(f"\ncontradicts the reference{says}", "red")
    return heading


def _kept_heading(record: Record) -> Text:
    heading = Text.assemble(("kept", "bold"), (f"  {len(record.completion_ids):,} tokens", "dim"))
    if record.further_completions:
        heading.append(f" and {len(record.further_completions)} more", "dim")
    attempt = record.kept_attempt
    if attempt is not None:
        rollout = attempt.rollout
        by = "" if rollout.policy == "target" else f" by {visible(rollout.policy)}"
        heading.append(f"\n{rollout.phase} sample {rollout.sample_index}{by}, seed {rollout.seed}", "dim")
        heading.append(f"\ncorrect: {visible(attempt.verdict.reason)}", "green")
        heading.append_text(_steps(attempt))
    return heading


def _steps(attempt: Attempt) -> Text:
    """Renders a line if a right answer's solution contains false equations."""
    if attempt.steps is None or attempt.steps.outcome is not Outcome.WRONG:
        return Text()
    return Text(f"\ncontains a false equation: {visible(attempt.steps.reason)}", "red")


def _attempts_in_brief(record: Record) -> Text:
    if not record.attempts:
        return Text("no sample was drawn", style="dim")
    counts: dict[Phase, Counter[tuple[Outcome, str]]] = {}
    for attempt in record.attempts:
        reason = f"rejected: {attempt.rejection}" if attempt.rejection else attempt.verdict.reason
        counts.setdefault(attempt.rollout.phase, Counter())[attempt.verdict.outcome, reason] += 1
    text = Text(style="dim")
    for phase, verdicts in counts.items():
        text.append(f"{phase}: " if not text else f"; {phase}: ")
        parts = [
            Text.assemble(f"{count} ", (outcome.value, OUTCOME_STYLES[outcome]), f" ({visible(reason)})")
            for (outcome, reason), count in verdicts.most_common()
        ]
        text.append_text(Text(", ").join(parts))
    return text.append(f"; {record.num_sampled_tokens:,} tokens")


def _attempts_table(record: Record) -> Table:
    table = Table(
        Column("sample", no_wrap=True), Column("verdict"), Column("answer", overflow="fold", max_width=16),
        number_column("tokens"), Column("text", ratio=1, overflow="fold"),
        box=box.SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for attempt in record.attempts:
        rollout, verdict = attempt.rollout, attempt.verdict
        table.add_row(
            Text.assemble(f"{rollout.phase} {rollout.sample_index}", (f"\nseed {rollout.seed}", "dim")),
            _verdict(attempt),
            Text(visible(verdict.answer or "")),
            f"{len(rollout.completion.token_ids):,}",
            Text.assemble(_thought(rollout.completion.thought), visible(rollout.completion.text)),
        )
    return table


def _verdict(attempt: Attempt) -> Text:
    verdict = attempt.verdict
    label = verdict.outcome.value.replace("_", " ")
    text = Text.assemble((label, OUTCOME_STYLES[verdict.outcome]), (f"\n{visible(verdict.reason)}", "dim"))
    if attempt.rejection:
        text.append(f"\nrejected: {visible(str(attempt.rejection))}", "yellow")
    return text.append_text(_steps(attempt))
