"""Writes sentences about the cascade's results and the verifier's verdicts."""

from collections.abc import Sequence

from drsft.records import Outcome, Source
from drsft.report.cascade_counts import Cascade, CascadePhase
from drsft.report.findings.finding import Finding
from drsft.report.grounding import GroundingShown
from drsft.report.wording import PHASE_NAMES, count, joined, percent, plural

__all__ = ["context_pairs_finding", "flow_finding", "grounding_finding", "steps_finding", "verdict_finding"]

NEARLY_ALL = 0.9


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
        sentences.append(f"{plural(cascade.num_carried, 'row')} are carried over from the round before.")
    if taught:
        sentences.append(f"{percent(taught)} keep a teacher's solution.")
    if dropped:
        sentences.append(f"{percent(dropped)} were dropped: nothing was accepted.")
    return " ".join(sentences)


def steps_finding(cascade: Cascade) -> Finding | None:
    """Says how many guided solutions contain a false equation; None if none was checked."""
    if not cascade.num_steps_checked:
        return None
    share = cascade.num_steps_failed / cascade.num_steps_checked
    return Finding(
        sentence=f"{percent(share)} of {plural(cascade.num_steps_checked, 'accepted guided solution')} whose "
        "equations could be read contain a false equation.",
        detail="Their answers are right: they may have been copied from the guide. "
        "rewrite.guided.require_steps rejects such solutions.",
    )


def grounding_finding(grounding: GroundingShown) -> Finding:
    """Says how many right guided solutions passed the grounding check (how likely they are without their
    guide).
    """
    share = grounding.num_accepted / grounding.num_scored
    return Finding(
        sentence=f"{percent(share)} of {plural(grounding.num_scored, 'right guided solution')} that "
        "were read again without their guide are accepted.",
        detail="Each is scored behind the plain prompt: the log-prob of the answer where the solution first "
        "states it. One whose answer does not follow, or that is less likely than the expert's text, is "
        "rejected; solutions without a calculation that gives their answer are not scored.",
    )


def context_pairs_finding(cascade: Cascade) -> Finding | None:
    """Says for Hinted Decoding how many pairs of contexts (a problem's hinted and plain prompt) were decoded,
    how often a pair got out of step and was decoded again, and how many pairs were in the end decoded one
    context after the other. Returns None if Hinted Decoding was not used.
    """
    if not cascade.num_pairs:
        return None
    fell = plural(cascade.num_pairs_redone, "time")
    return Finding(
        sentence=f"Hinted Decoding decoded {plural(cascade.num_pairs, 'pair')} of contexts; {fell} a pair "
        "fell out of step and was decoded again from its last confirmed token.",
        detail=f"Pairs that were decoded one context after the other in the end: "
        f"{count(cascade.num_pairs_apart)}.",
    )


def verdict_finding(phases: Sequence[CascadePhase]) -> Finding:
    """Says the share of correct samples in each phase, and how many samples could not be judged."""
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
