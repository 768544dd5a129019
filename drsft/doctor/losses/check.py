"""Checks a fixtures file and shows the results as tables.

Each case is computed with every objective that it lists (the file calls them methods). The parts of the file
beside its cases (drsft/doctor/losses/blocks.py) are checked, too.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from drsft.doctor.losses.blocks import BLOCKS, block_findings
from drsft.doctor.losses.findings import TOLERANCE, Finding
from drsft.doctor.losses.fixtures import UnknownMethodError, cases_in, read_fixtures
from drsft.doctor.losses.methods import method_findings, statistics_findings
from drsft.errors import InputError

__all__ = ["LossReport", "check_losses"]

QUANTITIES = ("weight", "token loss", "loss", "gradient")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    findings: tuple[Finding, ...]
    of_methods: tuple[Finding, ...]
    unknown: tuple[str, ...]  # methods in the file that drsft does not have

    @property
    def is_right(self) -> bool:
        return not self.unknown and all(found.is_right for found in (*self.findings, *self.of_methods))

    @property
    def complaints(self) -> list[str]:
        wrong = [found for found in (*self.findings, *self.of_methods) if not found.is_right]
        return [
            *(f"wrong: {w.block}, {w.subject}, {w.quantity}: off by {w.error:.3g}" for w in wrong),
            *(f"unknown: {line}" for line in self.unknown),
        ]

    def tables(self) -> Iterator[Table]:
        ways = [f"{way} {quantity}" for way in ("plain", "fused") for quantity in QUANTITIES]
        table = Table("objective", "cases", *ways, "", title=f"largest error; at most {TOLERANCE:g} is right")
        by_method = _grouped(self.of_methods)
        for method, findings in by_method.items():
            largest = [_largest(findings, way) for way in ways]
            num_cases = str(len({found.block for found in findings}))
            table.add_row(method, num_cases, *largest, _mark(findings))
        if by_method:
            yield table
        others = Table("block", "numbers", "largest error", "")
        for subject, findings in _grouped(self.findings).items():
            worst = max(findings, key=lambda found: found.error)
            others.add_row(subject, str(len(findings)), f"{worst.error:.1e}", _mark(findings))
        yield others


def check_losses(path: Path) -> LossReport:
    """Checks all cases of a fixtures file and the parts beside them; the report lists methods (objectives)
    that drsft does not have.

    Raises InputError if the file cannot be read or contains nothing to check.
    """
    tree = read_fixtures(path)
    findings: list[Finding] = []
    of_methods: list[Finding] = []
    unknown: list[str] = []
    for case in cases_in(tree, path):
        findings += statistics_findings(case)
        for name in case.tree["methods"]:
            try:
                of_methods += method_findings(case, case.method(name))
            except UnknownMethodError as error:
                unknown.append(str(error))
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"{path}: case {case.name!r}, method {name!r} cannot be read: {error}"
                ) from error
    findings += block_findings(tree, path)
    if not (findings or of_methods or unknown):
        raise InputError(f"{path}: nothing to check; it needs entries under cases, or {' or '.join(BLOCKS)}")
    return LossReport(findings=tuple(findings), of_methods=tuple(of_methods), unknown=tuple(unknown))


def _grouped(findings: tuple[Finding, ...]) -> dict[str, list[Finding]]:
    grouped = defaultdict(list)
    for found in findings:
        grouped[found.subject].append(found)
    return dict(grouped)


def _largest(findings: list[Finding], quantity: str) -> str:
    errors = [found.error for found in findings if found.quantity == quantity]
    return f"{max(errors):.0e}" if errors else "–"


def _mark(findings: list[Finding]) -> str:
    return "✓" if all(found.is_right for found in findings) else "✗"
