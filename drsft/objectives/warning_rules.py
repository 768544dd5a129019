"""Detects when a training goes wrong: rules over its metrics, each with its meaning and a remedy.

A rule compares a metric's mean over the last `WINDOW` steps with a bound, or with its mean over the first
`WINDOW` steps. The bounds are far from what healthy runs show, so that warnings are rare; a training without
warnings is not proven good.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["RULES", "WINDOW", "troubles"]

WINDOW = 20  # steps

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    name: str
    metric: str
    is_broken: Callable[[float, float], bool]  # by the first window's mean and the last one's
    advice: str


RULES = (
    Rule(
        name="few tokens learn",
        metric="effective_sample_size",
        is_broken=lambda first, last: last < 0.05,
        advice="under 5 % of the tokens carry the weight; set guards.min_weight, or rewrite more problems",
    ),
    Rule(
        name="weights vanish",
        metric="mean_weight",
        is_broken=lambda first, last: 0 <= last < 0.01,
        advice="hardly anything is learnt, since the text is too unlikely for this objective; use sft",
    ),
    Rule(
        name="entropy collapses",
        metric="entropy",
        is_broken=lambda first, last: last < first / 2,
        advice="the entropy has halved and pass@k may fall; train for fewer epochs, or use asft",
    ),
    Rule(
        name="tokens become less likely",
        metric="mean_p",
        is_broken=lambda first, last: last < first - 0.05,
        advice="training should raise the mean p of its tokens; lower train.learning_rate",
    ),
    Rule(
        name="the end of turn is not learnt",
        metric="end_of_turn_p",
        is_broken=lambda first, last: last < 0.5 and last < first - 0.1,
        advice="answers may never stop; set guards.exempt_end_of_turn",
    ),
    Rule(
        name="unlikely tokens lead",
        metric="low_p_gradient_share",
        is_broken=lambda first, last: last > 0.8,
        advice="more than 80 % of the gradient comes from tokens with p < 0.1; rewrite more, or use dft",
    ),
    Rule(
        name="limits decide",
        metric="clip_share",
        is_broken=lambda first, last: last > 0.5,
        advice="more than half of the weights are at a limit of the objective or guards; widen these limits",
    ),
    Rule(
        name="the gradient explodes",
        metric="grad_norm",
        is_broken=lambda first, last: last > 10 * first > 0,
        advice="its norm has grown tenfold; lower train.learning_rate",
    ),
)


def troubles(history: Sequence[Row]) -> dict[str, str]:
    """Returns a sentence for each rule that the steps so far violate, by the rule's name.

    Returns {} for fewer than two windows of steps.
    """
    if len(history) < 2 * WINDOW:
        return {}
    found = {}
    for rule in RULES:
        first, last = (_mean(part, rule.metric) for part in (history[:WINDOW], history[-WINDOW:]))
        if first is not None and last is not None and rule.is_broken(first, last):
            found[rule.name] = f"{rule.name}: {rule.metric} was {first:.3g}, is {last:.3g}; {rule.advice}"
    return found


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = [row[metric] for row in rows if metric in row]
    return sum(values) / len(values) if values else None
