"""Writes sentences about what one run gains over another."""

from collections.abc import Sequence

from drsft.report.findings.finding import Finding
from drsft.report.run_comparison import ArmOfBoth, RunComparison
from drsft.report.wording import joined, plural, points

__all__ = ["comparison_finding", "differences_finding"]


def comparison_finding(compared: RunComparison) -> Finding:
    """Says which arms are clearly better and which clearly worse in the second run than in the first: the
    interval of a clear difference excludes zero.
    """
    if not compared.arms:
        return Finding(sentence="The two runs have no arm that was evaluated on the same problems.")
    clear = [one for one in compared.arms if one.difference.is_clear]
    gains = [_named(one) for one in clear if one.difference.value > 0]
    losses = [_named(one) for one in clear if one.difference.value < 0]
    parts = [f"gains clearly with {joined(gains)}"] if gains else []
    parts += [f"loses clearly with {joined(losses)}"] if losses else []
    if not parts:
        return Finding(sentence=f"No arm differs clearly between {compared.second} and {compared.first}.")
    return Finding(sentence=f"{compared.second} {joined(parts)} against {compared.first}.")


def differences_finding(arms: Sequence[ArmOfBoth]) -> Finding:
    """Says how many of the arms' differences are clear."""
    clear = sum(one.difference.is_clear for one in arms)
    return Finding(
        sentence=f"{clear or 'None'} of {plural(len(arms), 'difference')} {'is' if clear == 1 else 'are'} "
        "clear of chance.",
        detail="Differences in percentage points, second run minus first, paired by problem over those that "
        "both evaluations have; grey ones may be chance.",
    )


def _named(one: ArmOfBoth) -> str:
    return f"{one.arm} ({points(one.difference.value)} on {one.benchmark})"
