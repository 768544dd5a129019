"""Finds known vulnerabilities of the pinned packages with pip-audit, in its own environment, from the lock
files.

Exits with 1 for an advisory that cluster/audit_exceptions.txt does not name. If no advisory database can be
reached, it says so and exits with 0. To find out, it first asks about a pin that is known to have advisories.
"""

import json
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv-audit"
PIP_AUDIT = "pip-audit==2.10.1"
EXCEPTIONS = ROOT / "cluster/audit_exceptions.txt"
CONTROL = "jinja2==3.1.4"  # CVE-2024-56326 and others
SKIPPED = "skipped: no advisory database"


def pins(lock: str) -> list[str]:
    """Returns `name==version` of each line; a local build (+cpu) has the advisories of its base version."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;+]+)", lock, re.MULTILINE)
    return [f"{name}=={version}" for name, version in found]


def exceptions(text: str) -> dict[str, str]:
    """Returns the reason for each excepted advisory. A line is `ID reason`; # begins a comment."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {line.split()[0]: line.partition(" ")[2].strip() for line in lines if line}


def findings(report: dict[str, list[dict[str, object]]], excepted: Iterable[str]) -> Iterator[str]:
    """Yields the findings in pip-audit's JSON, without the exceptions."""
    for package in report["dependencies"]:
        for advisory in package.get("vulns", ()):  # type: ignore[attr-defined]
            if not {advisory["id"], *advisory["aliases"]} & set(excepted):
                fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
                yield f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}"


def _ask(asked: list[str]) -> dict[str, list[dict[str, object]]] | None:
    """Returns pip-audit's report, or None if it has none to give."""
    if not (TOOLS / "bin/pip-audit").exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([TOOLS / "bin/pip", "install", "-qq", PIP_AUDIT], check=False)
    with NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(asked))
        file.flush()
        command = [TOOLS / "bin/pip-audit", "--disable-pip", "--no-deps", "--format=json", "-r", file.name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            report: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None
    return report


def main(locks: list[str]) -> int:
    """Audits each lock file; the control comes first, so that a missing database is asked only once."""
    control = _ask([CONTROL])
    if control is None or not list(findings(control, ())):
        print(SKIPPED)
        return 0
    excepted = exceptions(EXCEPTIONS.read_text())
    report = _ask([pin for lock in locks for pin in pins(Path(lock).read_text())])
    if report is None:
        print(SKIPPED)
        return 0
    unknown = [str(one["name"]) for one in report["dependencies"] if "skip_reason" in one]
    found = list(findings(report, excepted))
    for line in found:
        print(f"vulnerable: {line}")
    print(f"{len(report['dependencies'])} pins, {len(found)} findings, {len(excepted)} exceptions")
    if unknown:
        print(f"not in the database: {', '.join(unknown)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [str(ROOT / "requirements-cpu.lock")]))
