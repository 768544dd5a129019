"""Formats the comparison as rows of text, for a table in the terminal."""

from drsft.report.data import ReportData
from drsft.report.wording import count, interval, percent

__all__ = ["COMPARISON_HEADER", "ROUNDS_HEADER", "comparison_rows", "round_rows", "source_rows"]

COMPARISON_HEADER = ("benchmark", "arm", "avg@k", "95 % interval", "pass@k", "seeds")
ROUNDS_HEADER = ("round", "rewritten", "carried", "tokens", "tokens saved", "kept", "avg@k")


def comparison_rows(data: ReportData) -> list[tuple[str, ...]]:
    """Returns one row of text for each arm and benchmark, in the columns of COMPARISON_HEADER."""
    return [
        (
            row.benchmark,
            row.arm,
            percent(row.avg_at_k),
            interval(row.low, row.high),
            "" if row.pass_at_k is None else f"{percent(row.pass_at_k)} (k={row.pass_k})",
            str(len(row.seeds) or ""),
        )
        for row in data.comparison
    ]


def round_rows(data: ReportData) -> list[tuple[str, ...]]:
    """Returns one row of text for each round, in the columns of ROUNDS_HEADER."""
    return [
        (
            str(one.number),
            count(one.num_rewritten),
            count(one.num_carried),
            count(one.num_tokens),
            count(one.num_tokens_saved),
            ", ".join(f"{n:,} {source.value}" for source, n in one.sources.items() if n),
            ", ".join(f"{score.benchmark} {percent(score.avg_at_k)}" for score in one.scores),
        )
        for one in data.rounds
    ]


def source_rows(data: ReportData) -> list[tuple[str, str, str]]:
    """Returns for each source its name, its number of kept rows and their share; [] before rewriting."""
    if data.cascade is None:
        return []
    cascade = data.cascade
    return [(source.value, count(n), percent(cascade.share(source))) for source, n in cascade.sources.items()]
