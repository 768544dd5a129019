"""The scores of guided solutions in the terminal: how they are spread, and the worst and best of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from drsft.records import Attempt, Problem, Record
from drsft.report.terminal.style import visible

__all__ = ["GroundedAttempt", "grounded_attempts", "grounding_view"]

LOWEST_NATS = -15  # the first bin of the histogram holds all below it
BAR_CHARS = 40


@dataclass(frozen=True, slots=True)
class GroundedAttempt:
    problem: Problem
    attempt: Attempt
    answer_logprob: float  # nats


def grounded_attempts(records: Iterable[Record]) -> list[GroundedAttempt]:
    """Returns every guided attempt whose answer was scored, the least likely first."""
    found = [
        GroundedAttempt(record.problem, attempt, attempt.grounding.answer_logprob)
        for record in records
        for attempt in record.attempts
        if attempt.grounding is not None and attempt.grounding.answer_logprob is not None
    ]
    return sorted(found, key=lambda one: (one.answer_logprob, one.problem.problem_id))


def grounding_view(attempts: Sequence[GroundedAttempt], limit: int) -> RenderableType:
    """A histogram of `grounded_attempts`, then `limit` of the least and of the most likely answers."""
    if not attempts:
        return Text("no guided solution was scored: rewrite.grounding is null, or none was right", "dim")
    kept = [one for one in attempts if one.attempt.is_accepted]
    parts: list[RenderableType] = [
        Text(
            f"{len(attempts):,} right guided solutions were scored without their guide; "
            f"{len(kept):,} lead to their answer and narrow the gap"
        ),
        _reasons(attempts),
        Text("\nlog-prob of the answer where it is first stated, nats: all (·) and accepted (█)", "bold"),
        *_histogram(attempts),
    ]
    lowest, highest = attempts[:limit], attempts[-limit:][::-1] if limit else []
    for name, those in (("least likely", lowest), ("most likely", highest)):
        parts += [Text(f"\n{name} answers", "bold"), *map(_one, those)]
    return Group(*parts)


def _reasons(attempts: Sequence[GroundedAttempt]) -> Text:
    counts = Counter(str(one.attempt.rejection) for one in attempts if one.attempt.rejection is not None)
    parts = [f"{count:,} rejected: {visible(reason)}" for reason, count in counts.most_common()]
    return Text("; ".join(parts) or "none was rejected", "dim")


def _histogram(attempts: Sequence[GroundedAttempt]) -> Iterable[Text]:
    def bin_of(one: GroundedAttempt) -> int:
        return int(max(one.answer_logprob // 1, LOWEST_NATS))

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
        (f"{one.answer_logprob:.2f}  ", "bold"),
        (f"{visible(one.problem.problem_id)}  {attempt.rollout.phase} {attempt.rollout.sample_index}", "dim"),
        (f"  log-prob {scores.mean_logprob:.2f} a token{beside}; {visible(rejection)}\n", "dim"),
        (f"{visible(one.problem.question)}\n", "italic"),
        f"{visible(attempt.rollout.completion.text)}\n",
    )
