"""The sentences at the head of the report and of each chart, computed from the numbers and nothing else.

A lead counts as clear when the paired difference's 95 % interval leaves zero out; without a paired
difference, when the two arms' intervals do not meet, which asks for more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from drsft.gap.report import GapReport
from drsft.gap.summary import GapSummary
from drsft.records import Outcome, Source
from drsft.report.data import (
    ArmDifference,
    Cascade,
    CascadeStage,
    ComparisonRow,
    LossCurve,
    ReportData,
    RoundShown,
)
from drsft.report.wording import CONFIDENCE, count, decimal, interval, joined, percent, plural, stage_name

__all__ = [
    "Finding",
    "benchmarks_of",
    "best_of",
    "comparison_finding",
    "final_loss",
    "flow_finding",
    "gap_advice",
    "gap_finding",
    "headline",
    "loss_finding",
    "pairs_finding",
    "rounds_finding",
    "standing_finding",
    "verdict_finding",
]

NEARLY_ALL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, and what a careful reader should know beside it."""

    sentence: str
    detail: str = ""


def benchmarks_of(rows: Sequence[ComparisonRow]) -> dict[str, list[ComparisonRow]]:
    """Rows by benchmark, in the order in which the benchmarks first appear."""
    order = list(dict.fromkeys(row.benchmark for row in rows))
    ordered = sorted(rows, key=lambda row: order.index(row.benchmark))
    return {name: list(group) for name, group in groupby(ordered, key=lambda row: row.benchmark)}


def best_of(rows: Sequence[ComparisonRow]) -> ComparisonRow:
    """The row with the highest avg@k; the first of several equal ones."""
    return max(rows, key=lambda row: row.avg_at_k)


def headline(data: ReportData) -> Finding:
    if data.comparison:
        benchmarks = benchmarks_of(data.comparison)
        if len(benchmarks) > 1:
            return _several_benchmarks(data, benchmarks)
        ((name, rows),) = benchmarks.items()
        return comparison_finding(data, name, rows)
    if data.cascade is not None and data.cascade.num_kept:
        finding = flow_finding(data.cascade)
        return Finding(sentence=finding.sentence, detail="Nothing has been evaluated yet in this run.")
    return Finding(sentence="Nothing has been measured yet in this run.")


def comparison_finding(data: ReportData, benchmark: str, rows: Sequence[ComparisonRow]) -> Finding:
    """Which arm of one benchmark is best, and whether its lead over base and plain SFT is clear."""
    best = best_of(rows)
    if len(rows) == 1:
        return Finding(sentence=f"{_score(best)} on {benchmark}; nothing to compare it with yet.")
    detail = _detail(data, best, rows)
    if best.arm == "base":
        second = best_of([row for row in rows if row.arm != "base"])
        return Finding(
            sentence=f"No training helped on {benchmark}: the untrained model scores "
            f"{percent(best.avg_at_k)}, the best arm, {second.arm}, {percent(second.avg_at_k)}.",
            detail=detail,
        )
    rivals = [row for row in rows if row is not best and (row.arm == "base" or _is_plain_sft(row))]
    rivals = rivals or [best_of([row for row in rows if row is not best])]
    beaten = [row for row in rivals if _is_clear(data, best, row)]
    level = [row for row in rivals if row not in beaten]
    if not level:
        sentence = f"{_score(best)} on {benchmark}, clearly more than {_named(beaten)}."
    elif beaten:
        sentence = (
            f"{_score(best)} on {benchmark}, clearly more than {_named(beaten)}, "
            f"but its lead over {_named(level)} may be chance."
        )
    else:
        sentence = (
            f"No clear winner on {benchmark}: {best.arm} scores highest with {percent(best.avg_at_k)}, "
            f"but its lead over {_named(level)} may be chance."
        )
    return Finding(sentence=sentence, detail=detail)


def standing_finding(data: ReportData, rows: Sequence[ComparisonRow]) -> Finding:
    """Which arms lie clearly below the best, and which cannot be told from it."""
    best = best_of(rows)
    others = [row for row in rows if row is not best]
    below = [row.arm for row in others if _is_clear(data, best, row)]
    level = [row.arm for row in others if row.arm not in below]
    parts = [f"clearly below {best.arm}: {joined(below)}"] if below else []
    parts += [f"not to be told apart from {'it' if below else best.arm}: {joined(level)}"] if level else []
    text = "; ".join(parts) or f"only {best.arm} has been evaluated"
    return Finding(sentence=f"{text[0].upper()}{text[1:]}.")


def pairs_finding(differences: Sequence[ArmDifference]) -> Finding:
    clear = sum(paired.difference.is_clear for paired in differences)
    verb = "is" if clear == 1 else "are"
    share = f"{clear or 'none'} of {plural(len(differences), 'difference')}"
    return Finding(sentence=f"Paired by problem, {share} {verb} clear of chance.")


def _score(row: ComparisonRow) -> str:
    return f"{row.arm} scores {percent(row.avg_at_k)}"


def _named(rows: Sequence[ComparisonRow]) -> str:
    return joined([f"{row.arm} ({percent(row.avg_at_k)})" for row in rows])


def _is_plain_sft(row: ComparisonRow) -> bool:
    return row.data == "expert" and row.objective == "sft"


def _is_clear(data: ReportData, better: ComparisonRow, worse: ComparisonRow) -> bool:
    """Whether `better` is ahead beyond doubt; the paired difference decides when there is one."""
    for paired in data.differences:
        if paired.benchmark == better.benchmark and {paired.arm, paired.other} == {better.arm, worse.arm}:
            difference = paired.difference
            return difference.low > 0 if paired.arm == better.arm else difference.high < 0
    return better.low > worse.high


def _detail(data: ReportData, best: ComparisonRow, rows: Sequence[ComparisonRow]) -> str:
    num_seeds = max(len(row.seeds) for row in rows)
    sampled = f"avg@{best.k} on {plural(best.num_problems, 'problem')}"
    seeds = f", {plural(num_seeds, 'training seed')}" if num_seeds else ""
    parts = [
        f"Measured as {sampled}{seeds}; {best.arm}'s {CONFIDENCE} interval is "
        f"{interval(best.low, best.high)} per cent."
    ]
    level = [row.arm for row in rows if row is not best and not _is_clear(data, best, row)]
    if level:
        parts.append(f"Not to be told apart from it: {joined(level)}.")
    return " ".join(parts)


def _several_benchmarks(data: ReportData, benchmarks: dict[str, list[ComparisonRow]]) -> Finding:
    """The arm with the best mean over benchmarks; its lead counts benchmark by benchmark."""
    arms = list(dict.fromkeys(row.arm for row in data.comparison))
    table = {name: {row.arm: row for row in rows} for name, rows in benchmarks.items()}
    complete = [arm for arm in arms if all(arm in rows for rows in table.values())]
    if not complete:
        return Finding(sentence="No arm has been evaluated on every benchmark yet.")
    means = {arm: sum(rows[arm].avg_at_k for rows in table.values()) / len(table) for arm in complete}
    best = max(complete, key=lambda arm: means[arm])
    score = f"{best} is best on average over {len(table)} benchmarks ({percent(means[best])})"
    others = {row.arm: row for row in data.comparison if row.arm in complete and row.arm != best}
    rivals = [arm for arm, row in others.items() if arm == "base" or _is_plain_sft(row)]
    leads = []
    for arm in rivals or list(others):
        clear = sum(_is_clear(data, rows[best], rows[arm]) for rows in table.values())
        leads.append(f"its lead over {arm} ({percent(means[arm])}) is clear on {clear} of {len(table)}")
    detail = "The mean weighs every benchmark equally; leads are judged on each benchmark by itself."
    return Finding(sentence=f"{score}; {joined(leads)}." if leads else f"{score}.", detail=detail)


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
