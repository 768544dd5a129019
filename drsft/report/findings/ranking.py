"""Says which arm leads, and whether its lead is clear: the headline of the report and of each comparison.

A lead counts as clear when the paired difference's 95 % interval excludes zero; without a paired difference,
when the two arms' intervals do not overlap, which is stricter.
"""

from collections.abc import Sequence
from itertools import groupby

from drsft.report.data import (
    ArmDifference,
    ComparisonRow,
    ReportData,
)
from drsft.report.findings.cascade import flow_finding
from drsft.report.findings.finding import Finding
from drsft.report.wording import CONFIDENCE, interval, joined, percent, plural

__all__ = [
    "arms_finding",
    "benchmarks_of",
    "best_of",
    "comparison_finding",
    "headline",
    "pairs_finding",
    "pairs_to_show",
]

MAX_PAIRS = 15  # of six arms
MAX_NAMED = 8  # arms in one sentence


def benchmarks_of(rows: Sequence[ComparisonRow]) -> dict[str, list[ComparisonRow]]:
    """Returns the rows by benchmark, in the order in which the benchmarks first appear."""
    order = list(dict.fromkeys(row.benchmark for row in rows))
    ordered = sorted(rows, key=lambda row: order.index(row.benchmark))
    return {name: list(group) for name, group in groupby(ordered, key=lambda row: row.benchmark)}


def best_of(rows: Sequence[ComparisonRow]) -> ComparisonRow:
    """Returns the row with the highest avg@k; the first of several equal ones."""
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
    """Says which arm of one benchmark is best, and whether it clearly leads over base (the untrained target)
    and over SFT on the experts' texts.
    """
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


def arms_finding(data: ReportData, rows: Sequence[ComparisonRow]) -> Finding:
    """Says which arms of one benchmark are clearly below the best, and which may be as good."""
    best = best_of(rows)
    others = [row for row in rows if row is not best]
    below = [row.arm for row in others if _is_clear(data, best, row)]
    level = [row.arm for row in others if row.arm not in below]

    def named(arms: list[str]) -> str:
        return joined(arms) if len(arms) <= MAX_NAMED else f"{len(arms)} of {len(others)} others"

    parts = [f"clearly below {best.arm}: {named(below)}"] if below else []
    parts += [f"not clearly different from {'it' if below else best.arm}: {named(level)}"] if level else []
    text = "; ".join(parts) or f"only {best.arm} has been evaluated"
    return Finding(sentence=f"{text[0].upper()}{text[1:]}.")


def pairs_to_show(data: ReportData) -> list[ArmDifference]:
    """Returns the differences to show: all of them, if there are at most MAX_PAIRS.

    Otherwise only those with base, or with the best arm of their benchmark.
    """
    if len(data.differences) <= MAX_PAIRS:
        return list(data.differences)
    best = {name: best_of(rows).arm for name, rows in benchmarks_of(data.comparison).items()}
    return [one for one in data.differences if {one.arm, one.other} & {"base", best.get(one.benchmark)}]


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
    """Returns whether `better` leads clearly; the paired difference decides if there is one."""
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
        parts.append(f"Not clearly different from it: {joined(level)}.")
    return " ".join(parts)


def _several_benchmarks(data: ReportData, benchmarks: dict[str, list[ComparisonRow]]) -> Finding:
    """Says which arm has the best mean over benchmarks; its lead is judged benchmark by benchmark."""
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
