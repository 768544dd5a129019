"""Renders the comparison of two runs as one self-contained HTML page."""

from drsft.report.charts.intervals import Difference
from drsft.report.findings.two_runs import comparison_finding, differences_finding
from drsft.report.html.page import render_page
from drsft.report.run_comparison import ArmOfBoth, RunComparison

__all__ = ["render_comparison"]


def render_comparison(compared: RunComparison) -> str:
    return render_page(
        "compare_page.html.j2",
        compared=compared,
        finding=comparison_finding(compared),
        differences_finding=differences_finding(compared.arms),
        differences=[_difference(one) for one in compared.arms],
    )


def _difference(one: ArmOfBoth) -> Difference:
    found = one.difference
    name = f"{one.arm}, {one.benchmark}"
    return Difference(name=name, value=found.value, low=found.low, high=found.high)
