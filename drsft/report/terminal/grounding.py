"""The scores of guided solutions in the terminal: how they are spread, and the worst and best of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from drsft.records import Attempt, Problem, Record
from drsft.report.terminal.style import visible

__all__ = ["GroundedAttempt", "grounded_attempts", "grounding_view"]

LOWEST_NATS, HIGHEST_NATS = -10, 10  # the outermost bins of the histogram hold all beyond them
BAR_CHARS = 40


@dataclass(frozen=True, slots=True)
class GroundedAttempt:
    problem: Problem
    attempt: Attempt
    lift: float  # nats


def grounded_attempts(records: Iterable[Record]) -> list[GroundedAttempt]:
    """Returns every guided attempt with a lift, the lowest first."""
    found = [
        GroundedAttempt(record.problem, attempt, attempt.grounding.lift)
        for record in records
        for attempt in record.attempts
        if attempt.grounding is not None and attempt.grounding.lift is not None
    ]
    return sorted(found, key=lambda one: (one.lift, one.problem.problem_id))


def grounding_view(attempts: Sequence[GroundedAttempt], limit: int) -> RenderableType:
    """A histogram of the lifts of `grounded_attempts`, then `limit` of the lowest and of the highest."""
    if not attempts:
        return Text("no guided solution was scored: rewrite.grounding is null, or none was right", "dim")
    kept = [one for one in attempts if one.attempt.is_accepted]
    parts: list[RenderableType] = [
        Text(
            f"{len(attempts):,} right guided solutions were scored without their guide; "
            f"{len(kept):,} lead to their answer and narrow the gap"
        ),
        _reasons(attempts),
        Text("\nlift, nats: all (·) and accepted (█)", "bold"),
        *_histogram(attempts),
    ]
    lowest, highest = attempts[:limit], attempts[-limit:][::-1] if limit else []
    for name, those in (("lowest", lowest), ("highest", highest)):
        parts += [Text(f"\n{name} lift", "bold"), *map(_one, those)]
    return Group(*parts)


def _reasons(attempts: Sequence[GroundedAttempt]) -> Text:
    counts = Counter(str(one.attempt.rejection) for one in attempts if one.attempt.rejection is not None)
    parts = [f"{count:,} rejected: {visible(reason)}" for reason, count in counts.most_common()]
    return Text("; ".join(parts) or "none was rejected", "dim")


def _histogram(attempts: Sequence[GroundedAttempt]) -> Iterable[Text]:
    def bin_of(one: GroundedAttempt) -> int:
        return int(min(max(one.lift // 1, LOWEST_NATS), HIGHEST_NATS))

    everything = Counter(map(bin_of, attempts))
    accepted = Counter(bin_of(one) for one in attempts if one.attempt.is_accepted)
    most = max(everything.values())
    for nats in range(min(everything), max(everything) + 1):
        num_filled = round(accepted[nats] / most * BAR_CHARS)
        num_dots = max(round(everything[nats] / most * BAR_CHARS) - num_filled, 0)
        yield Text(f"{nats:+4d}  {'█' * num_filled}{'·' * num_dots}  {everything[nats]:,}")


def _one(one: GroundedAttempt) -> Text:
    scores, attempt = one.attempt.grounding, one.attempt
    assert scores is not None
    expert = scores.expert_mean_logprob
    beside = "" if expert is None else f", expert's {expert:.2f}"
    rejection = f"rejected: {attempt.rejection}" if attempt.rejection else "accepted"
    return Text.assemble(
        (f"{one.lift:+.2f}  ", "bold"),
        (f"{visible(one.problem.problem_id)}  {attempt.rollout.phase} {attempt.rollout.sample_index}", "dim"),
        (f"  log-prob {scores.mean_logprob:.2f} a token{beside}; {visible(rejection)}\n", "dim"),
        (f"{visible(one.problem.question)}\n", "italic"),
        f"{visible(attempt.rollout.completion.text)}\n",
    )
