"""The sentences at the head of each chart, computed from the numbers and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from drsft.gap.report import GapReport
from drsft.gap.summary import GapSummary
from drsft.records import Outcome, Source
from drsft.report.data import (
    Cascade,
    CascadeStage,
    LossCurve,
    RoundShown,
)
from drsft.report.wording import CONFIDENCE, count, decimal, joined, percent, plural, stage_name

__all__ = [
    "Finding",
    "final_loss",
    "flow_finding",
    "gap_advice",
    "gap_finding",
    "lockstep_finding",
    "loss_finding",
    "rounds_finding",
    "verdict_finding",
]

NEARLY_ALL = 0.9


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
    if taught:
        sentences.append(f"{percent(taught)} keep a teacher's solution.")
    if dropped:
        sentences.append(f"{percent(dropped)} were dropped: nothing was accepted.")
    return " ".join(sentences)


def steps_finding(cascade: Cascade) -> Finding | None:
    """How many accepted guided solutions have equations that do not hold; None where none was checked."""
    if not cascade.num_steps_checked:
        return None
    share = cascade.num_steps_failed / cascade.num_steps_checked
    return Finding(
        sentence=f"Of {plural(cascade.num_steps_checked, 'accepted guided solution')} whose equations could "
        f"be read {percent(share)} have one that does not hold.",
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


def verdict_finding(stages: Sequence[CascadeStage]) -> Finding:
    """The share of correct samples in each stage, and of those that the verifier could not judge."""
    shares, unjudged, total = [], 0, 0
    for stage in stages:
        num_samples = sum(stage.outcomes.values())
        share = stage.outcomes.get(Outcome.CORRECT, 0) / max(num_samples, 1)
        shares.append(f"{percent(share, 0)} in {stage_name(stage.name).lower()}")
        unjudged += stage.outcomes.get(Outcome.UNJUDGED, 0)
        total += num_samples
    return Finding(
        sentence=f"Samples judged correct: {joined(shares)}.",
        detail=f"{plural(unjudged, 'sample')} of {count(total)} could not be judged and were not accepted.",
    )


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
        verdict = "no clearer in likelihood than the expert text that they replace"
    return Finding(
        sentence=f"To the target, the rewritten rows are {verdict} ({bounds}).",
        detail=f"Averaged over {plural(change.num_problems, 'problem')}, {percent(change.share_positive, 0)} "
        "of which gained; scored with the plain prompt.",
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


def gap_advice(report: GapReport) -> Finding | None:
    """The recommendation as a sentence with its reasons; None where nothing would be trained on."""
    advice = report.recommendation
    if advice is None:
        return None
    rewriting = (
        "and rewrite more of it first" if advice.rewrite_more else "and there is no need to rewrite more"
    )
    return Finding(
        sentence=f"Recommended: train with {advice.objective}, {rewriting}.", detail=" ".join(advice.reasons)
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
