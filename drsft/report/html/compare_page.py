"""The comparison of two runs as one HTML page that needs nothing beside itself."""

from drsft.report.charts.intervals import Difference
from drsft.report.comparing import ArmOfBoth, RunComparison
from drsft.report.findings.finding import Finding
from drsft.report.html.page import render_page
from drsft.report.wording import joined, plural, points

__all__ = ["comparison_finding", "render_comparison"]


def render_comparison(compared: RunComparison) -> str:
    return render_page(
        "compare_page.html.j2",
        compared=compared,
        finding=comparison_finding(compared),
        standing=_standing(compared.arms),
        differences=[_difference(one) for one in compared.arms],
    )


def comparison_finding(compared: RunComparison) -> Finding:
    """Which arms gained and which lost clearly; a difference is clear when its interval leaves zero out."""
    if not compared.arms:
        return Finding(sentence="The two runs have no arm that was evaluated on the same problems.")
    clear = [one for one in compared.arms if one.difference.is_clear]
    gains = [_named(one) for one in clear if one.difference.value > 0]
    losses = [_named(one) for one in clear if one.difference.value < 0]
    parts = [f"gains clearly with {joined(gains)}"] if gains else []
    parts += [f"loses clearly with {joined(losses)}"] if losses else []
    if not parts:
        return Finding(sentence=f"{compared.second} and {compared.first} cannot be told apart.")
    return Finding(sentence=f"{compared.second} {joined(parts)} against {compared.first}.")


def _standing(arms: tuple[ArmOfBoth, ...]) -> Finding:
    clear = sum(one.difference.is_clear for one in arms)
    return Finding(
        sentence=f"{clear or 'None'} of {plural(len(arms), 'difference')} {'is' if clear == 1 else 'are'} "
        "clear of chance.",
        detail="Differences in percentage points, second run minus first, paired by problem over those that "
        "both evaluations have; grey ones may be chance.",
    )


def _named(one: ArmOfBoth) -> str:
    return f"{one.arm} ({points(one.difference.value)} on {one.benchmark})"


def _difference(one: ArmOfBoth) -> Difference:
    found = one.difference
    name = f"{one.arm}, {one.benchmark}"
    return Difference(name=name, value=found.value, low=found.low, high=found.high)
