"""The comparison as plain rows of text, for a table in the terminal."""

from drsft.report.data import ReportData
from drsft.report.wording import count, interval, percent

__all__ = ["COMPARISON_HEADER", "comparison_rows", "source_rows"]

COMPARISON_HEADER = ("benchmark", "arm", "avg@k", "95 % interval", "pass@k", "seeds")


def comparison_rows(data: ReportData) -> list[tuple[str, ...]]:
    """One row of text for each arm and benchmark, in the columns of COMPARISON_HEADER."""
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


def source_rows(data: ReportData) -> list[tuple[str, str, str]]:
    """Source, kept rows, share."""
    if data.cascade is None:
        return []
    cascade = data.cascade
    return [(source.value, count(n), percent(cascade.share(source))) for source, n in cascade.sources.items()]
