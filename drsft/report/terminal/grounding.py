"""Renders the scores of guided solutions for the terminal: their distribution, and the lowest and highest."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from drsft.report.grounding import GroundedAttempt, GroundingShown
from drsft.report.terminal.style import visible

__all__ = ["grounding_view"]

BAR_CHARS = 40


def grounding_view(shown: GroundingShown | None) -> RenderableType:
    """Renders the guided solutions' scores: counts, a histogram of the answer's log-prob without the guide,
    and examples with the lowest and the highest log-prob; a note if no solution was scored.
    """
    if shown is None:
        return Text("no guided solution was scored: rewrite.grounding is null, or none was right", "dim")
    reasons = [f"{count:,} rejected: {visible(reason)}" for reason, count in shown.num_by_rejection]
    parts: list[RenderableType] = [
        Text(
            f"{shown.num_scored:,} right guided solutions were scored without their guide; "
            f"{shown.num_accepted:,} lead to their answer and narrow the gap"
        ),
        Text("; ".join(reasons) or "none was rejected", "dim"),
        Text("\nlog-prob of the answer where it is first stated, nats: all (·) and accepted (█)", "bold"),
        *_histogram(shown),
    ]
    for name, those in (("least likely", shown.lowest), ("most likely", shown.highest)):
        parts += [Text(f"\n{name} answers", "bold"), *map(_one, those)]
    return Group(*parts)


def _histogram(shown: GroundingShown) -> Iterable[Text]:
    most = max(one.num_scored for one in shown.bins)
    for one in shown.bins:
        num_filled = round(one.num_accepted / most * BAR_CHARS)
        num_dots = max(round(one.num_scored / most * BAR_CHARS) - num_filled, 0)
        yield Text(f"{one.low_nats:+4d}  {'█' * num_filled}{'·' * num_dots}  {one.num_scored:,}")


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
