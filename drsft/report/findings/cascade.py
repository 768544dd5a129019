"""The sentences at the head of each chart, computed from the numbers and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from drsft.records import Outcome, Source
from drsft.report.cascade_counts import Cascade, CascadePhase
from drsft.report.data import LossCurve, Prices, RoundShown, StageCost, StageDone, TokenProbabilities
from drsft.report.wording import (
    PHASE_NAMES,
    count,
    decimal,
    duration,
    joined,
    percent,
    plural,
    work_name,
)

__all__ = [
    "Finding",
    "cost_finding",
    "final_loss",
    "flow_finding",
    "lockstep_finding",
    "loss_finding",
    "probability_finding",
    "rounds_finding",
    "standing_sentence",
    "verdict_finding",
]

NEARLY_ALL = 0.9
UNLIKELY_LOG10 = -1.0  # a probability of 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, and what a careful reader should know beside it."""

    sentence: str
    detail: str = ""


def flow_finding(cascade: Cascade) -> Finding:
    own, expert = map(cascade.share, (Source.OWN, Source.EXPERT))
    rewritten = cascade.share(Source.REWRITTEN) + cascade.share(Source.HINTED)
    problems = plural(cascade.num_kept, "problem")
    if expert >= NEARLY_ALL:
        return Finding(
            sentence=f"Nearly all of {problems} keep the expert's text ({percent(expert)}): the target "
            f"solved {percent(own)} by itself and {percent(rewritten)} with help.",
            detail="Training on these rows is close to training on the expert's.",
        )
    return Finding(
        sentence=f"Of {problems} the target solved {percent(own)} by itself and {percent(rewritten)} with "
        f"the expert's solution in view; {percent(expert)} keep the expert's text.",
        detail=_others(cascade),
    )


def _others(cascade: Cascade) -> str:
    taught, dropped = cascade.share(Source.TEACHER), cascade.share(Source.DROPPED)
    sentences = []
    if cascade.num_carried:
        sentences.append(f"{plural(cascade.num_carried, 'row')} stand as the round before left them.")
    if taught:
        sentences.append(f"{percent(taught)} keep a teacher's solution.")
    if dropped:
        sentences.append(f"{percent(dropped)} were dropped: nothing was accepted.")
    return " ".join(sentences)


def steps_finding(cascade: Cascade) -> Finding | None:
    """How many guided solutions have equations that do not hold; None where none was checked."""
    if not cascade.num_steps_checked:
        return None
    share = cascade.num_steps_failed / cascade.num_steps_checked
    return Finding(
        sentence=f"Of {plural(cascade.num_steps_checked, 'guided solution')} that nothing else speaks "
        f"against and whose equations could be read {percent(share)} have one that does not hold.",
        detail="Their answer is right: it may have been copied from the guide. rewrite.guided.require_steps "
        "refuses them.",
    )


def lockstep_finding(cascade: Cascade) -> Finding | None:
    """What became of the pairs of contexts; None where Hinted Decoding decoded nothing."""
    if not cascade.num_pairs:
        return None
    fell = plural(cascade.num_pairs_redone, "time")
    return Finding(
        sentence=f"Hinted Decoding decoded {plural(cascade.num_pairs, 'pair')} of contexts; {fell} one fell "
        "out of step and was done again from its last confirmed token.",
        detail=f"Decoded one context after the other in the end: {count(cascade.num_pairs_apart)}.",
    )


def cost_finding(costs: Sequence[StageCost], prices: Prices, cascade: Cascade | None) -> Finding | None:
    """Which stage took most, and what a kept row took; None where nothing is known."""
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


def standing_sentence(progress: Sequence[StageDone]) -> str:
    """How far an unfinished run is; empty for one that has done all that its configuration asks for."""
    open_ones = [one for one in progress if one.num_done < one.num_in_all]
    parts = [f"{one.name} {count(one.num_done)} of {plural(one.num_in_all, one.unit)}" for one in open_ones]
    return f"Not finished: {joined(parts)}." if parts else ""


def verdict_finding(phases: Sequence[CascadePhase]) -> Finding:
    """The share of correct samples in each phase, and of those that the verifier could not judge."""
    shares, unjudged, total = [], 0, 0
    for one in phases:
        num_samples = sum(one.outcomes.values())
        share = one.outcomes.get(Outcome.CORRECT, 0) / max(num_samples, 1)
        shares.append(f"{percent(share, 0)} in {PHASE_NAMES[one.phase].lower()}")
        unjudged += one.outcomes.get(Outcome.UNJUDGED, 0)
        total += num_samples
    return Finding(
        sentence=f"Samples judged correct: {joined(shares)}.",
        detail=f"{plural(unjudged, 'sample')} of {count(total)} could not be judged and were not accepted.",
    )


def probability_finding(probabilities: Sequence[TokenProbabilities]) -> Finding | None:
    """Which arm leaves most unlikely tokens behind, and which fewest; None where nothing was counted."""
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


def rounds_finding(rounds: Sequence[RoundShown]) -> Finding | None:
    """What the later rounds brought and saved; None for a run with one round."""
    if len(rounds) < 2:
        return None
    *_, last = rounds
    changes = [score.change for one in rounds for score in one.scores if score.change is not None]
    clear = [change for change in changes if change.is_clear]
    gained = sum(change.value > 0 for change in clear)
    saved = sum(one.num_tokens_saved for one in rounds)
    if not changes:
        sentence = "Nothing has been evaluated after a later round yet."
    elif not clear:
        sentence = f"No round changed the accuracy beyond chance, over {plural(len(rounds), 'round')}."
    else:
        sentence = (
            f"Of {plural(len(changes), 'change')} from round to round {gained} are clear gains and "
            f"{len(clear) - gained} clear losses."
        )
    own = plural(last.sources.get(Source.OWN, 0), "text")
    return Finding(
        sentence=sentence,
        detail=f"Round {last.number} keeps {own} that a target wrote alone, {count(last.num_carried)} of all "
        f"carried over; over all rounds, what was carried over had cost {count(saved)} tokens.",
    )


def final_loss(curves: Sequence[LossCurve]) -> float | None:
    """Mean over seeds of the mean loss in the last tenth of the steps (a single step is noise)."""
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
