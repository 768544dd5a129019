"""Writes a sentence about the run's costs."""

from collections.abc import Sequence

from drsft.report.cascade_counts import Cascade
from drsft.report.data import Prices, StageCost
from drsft.report.findings.finding import Finding
from drsft.report.wording import count, decimal, duration, percent, work_name

__all__ = ["cost_finding"]


def cost_finding(costs: Sequence[StageCost], prices: Prices, cascade: Cascade | None) -> Finding | None:
    """Says which stage took the largest share of the workers' time, and how many sampled tokens, and how much
    money, each kept row took in rewriting.

    Returns None if no stage's working time is known. Money is left out if no price is set.
    """
    known = [(cost.worker_s, cost) for cost in costs if cost.worker_s]
    if not known:
        return None
    total_s = sum(seconds for seconds, _ in known)
    most_s, most = max(known, key=lambda one: one[0])
    total_hours = sum(cost.gpu_hours or 0.0 for _, cost in known)
    whole = f"{decimal(total_hours, 2)} GPU hours" if total_hours else f"{duration(total_s)} of work"
    sentence = f"{work_name(most.name)} took {percent(most_s / total_s, 0)} of {whole}"
    rewriting = next((cost for cost in costs if cost.name == "rewrite"), None)
    if rewriting is None or cascade is None or not cascade.num_kept or rewriting.num_tokens is None:
        return Finding(sentence=f"{sentence}.")
    row = f"{count(rewriting.num_tokens / cascade.num_kept)} sampled tokens"
    money = prices.of(rewriting)
    if money:
        row = f"{row} and {decimal(money / cascade.num_kept, 5)} {prices.currency}"
    return Finding(
        sentence=f"{sentence}; a kept row took {row}.",
        detail="" if total_hours else "The run used no GPU, so there are no GPU hours to price.",
    )
