"""Writes sentences on the loss at the end of training, and on the share of unlikely tokens before and after
it.
"""

from collections.abc import Sequence

from drsft.report.data import LossCurve, TokenProbabilities
from drsft.report.findings.finding import Finding
from drsft.report.wording import decimal, percent

__all__ = ["final_loss", "loss_finding", "probability_finding"]

UNLIKELY_LOG10 = -1.0  # a probability of 0.1


def final_loss(curves: Sequence[LossCurve]) -> float | None:
    """Returns the mean over seeds of the mean loss in the last tenth of the steps (a single step is noise);
    None if no curve has points.
    """
    ends = []
    for curve in curves:
        if curve.points:
            threshold = 0.9 * curve.points[-1][0]
            tail = [loss for step, loss in curve.points if step >= threshold]
            ends.append(sum(tail) / len(tail))
    return sum(ends) / len(ends) if ends else None


def loss_finding(losses: Sequence[LossCurve]) -> Finding:
    arms = dict.fromkeys(curve.arm for curve in losses)
    ends = {arm: final_loss([curve for curve in losses if curve.arm == arm]) for arm in arms}
    known = sorted((end, arm) for arm, end in ends.items() if end is not None)
    if not known:
        return Finding(sentence="The training logged no losses.")
    (low, lowest), (high, highest) = known[0], known[-1]
    sentence = f"Cross-entropy ends at {decimal(low)} nats per token ({lowest})"
    if len(known) > 1:
        ends_text = f"{decimal(low)} ({lowest}) and {decimal(high)} ({highest})"
        sentence = f"Cross-entropy ends between {ends_text} nats per token"
    return Finding(
        sentence=f"{sentence}.",
        detail="Each arm is measured on its own training rows: a lower curve means text that is easier to "
        "predict, not a better model.",
    )


def probability_finding(probabilities: Sequence[TokenProbabilities]) -> Finding | None:
    """Says which arms leave the most and the fewest unlikely tokens; None if nothing was counted."""
    if not probabilities:
        return None

    def change(one: TokenProbabilities) -> str:
        before, after = (one.share_below(UNLIKELY_LOG10, counts) for counts in (one.before, one.after))
        return f"{percent(before)} before and {percent(after)} after {one.arm}"

    ordered = sorted(probabilities, key=lambda one: one.share_below(UNLIKELY_LOG10, one.after))
    ends = [ordered[0], *ordered[-1:]] if len(ordered) > 1 else ordered
    return Finding(
        sentence=f"Of the training tokens {'; '.join(map(change, ends))} have a probability below 0.1.",
        detail="Each arm on a sample of its own training texts, all seeds together, under the model before "
        "its first step and as it was exported.",
    )
