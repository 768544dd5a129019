"""Writes the gap report's sentences, computed from its numbers alone."""

from drsft.gap.report import GapReport
from drsft.gap.summary import GapSummary
from drsft.report.findings.finding import Finding
from drsft.report.wording import CONFIDENCE, decimal, percent, plural

__all__ = ["gap_advice", "gap_finding", "phi_finding", "weight_finding"]


def gap_finding(gap: GapSummary) -> Finding:
    change = gap.improvement
    if change is None:
        return _gap_of_one(gap)
    bounds = f"{CONFIDENCE} interval {decimal(change.low)} to {decimal(change.high)}"
    if change.low > 0:
        verdict = f"{decimal(change.value)} nats per token likelier than the expert text that they replace"
    elif change.high < 0:
        verdict = (
            f"{decimal(-change.value)} nats per token less likely than the expert text that they replace"
        )
    else:
        verdict = "neither clearly likelier nor clearly less likely than the expert text that they replace"
    return Finding(
        sentence=f"To the target, the rewritten rows are {verdict} ({bounds}).",
        detail=f"Averaged over {plural(change.num_problems, 'problem')}, {percent(change.share_positive, 0)} "
        "of which gained; scored with the plain prompt.",
    )


def phi_finding(gap: GapSummary) -> Finding:
    """Says how far the training texts are from the model's own samples, before and after rewriting."""
    before, after = gap.group("demonstrations"), gap.group("kept")
    detail = (
        "φ is log p plus the entropy: near zero for the model's own samples at temperature 1, clearly "
        "negative for foreign text. Weighed by tokens; the charts weigh rows."
    )
    if before is None or after is None:
        one = after or before or gap.groups[0]
        return Finding(sentence=f"The texts' φ̄ is {decimal(one.mean_phi, 3, signed=True)}.", detail=detail)
    verb = "moves" if after.mean_phi > before.mean_phi else "falls"
    return Finding(
        sentence=f"φ̄ {verb} from {decimal(before.mean_phi, 3, signed=True)} for the demonstrations to "
        f"{decimal(after.mean_phi, 3, signed=True)} for what is kept.",
        detail=detail,
    )


def weight_finding(gap: GapSummary) -> Finding:
    """Says how large a share of the tokens DFT's weights (the token probabilities) leave in effect, before
    and after rewriting.
    """
    detail = (
        "Kish's effective sample, (Σw)² / (n Σw²), of the weights before the first step: at 100 % all tokens "
        "count alike. Low shares mean noisy steps: few tokens decide."
    )
    before, after = gap.group("demonstrations"), gap.group("kept")
    shares = [
        weight.effective_sample_share
        for group in (before, after)
        if group is not None and (weight := group.weight("dft")) is not None
    ]
    if len(shares) < 2:
        return Finding(sentence="How many tokens each objective would leave in effect", detail=detail)
    return Finding(
        sentence=f"DFT would leave {percent(shares[0], 0)} of the demonstrations' tokens in effect and "
        f"{percent(shares[1], 0)} of the kept ones.",
        detail=detail,
    )


def gap_advice(report: GapReport) -> Finding | None:
    """Returns the recommendation as a sentence with its reasons; None if nothing would be trained on."""
    advice = report.recommendation
    if advice is None:
        return None
    rewriting = (
        "and rewrite more of it first" if advice.rewrite_more else "and there is no need to rewrite more"
    )
    return Finding(
        sentence=f"Recommended: train with {advice.objective}, {rewriting}.", detail=" ".join(advice.reasons)
    )


def _gap_of_one(gap: GapSummary) -> Finding:
    kept = gap.group("kept")
    if kept is None:
        return Finding(sentence="No text would be trained on, so there is no gap to measure.")
    return Finding(
        sentence=f"To the model the texts have a log-prob of {decimal(kept.mean_logprob)} nats a token "
        f"and a φ̄ of {decimal(kept.mean_phi, 3, signed=True)}; no expert text was replaced, so there is "
        "nothing to compare.",
        detail=f"{plural(kept.num_rows, 'row')}, scored with the plain prompt.",
    )
