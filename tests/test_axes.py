"""The letters at the end of names are those of the legend in CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUFFIX = re.compile(r"[a-z][a-z0-9_]*_(\d*[A-Z][A-Z0-9]*)")


def letters_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [getattr(node, key, None) for key in ("id", "arg", "attr")]
        for name in filter(lambda name: isinstance(name, str), names):
            if match := SUFFIX.fullmatch(str(name)):
                found |= set(re.sub(r"\d", "", match.group(1)))
    return found


def legend() -> set[str]:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Axes\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([A-Z](?:, [A-Z])*) \|", section, flags=re.MULTILINE)
    return {letter for row in rows for letter in row.split(", ")}


def test_every_axis_is_in_the_legend() -> None:
    paths = [path for folder in ("drsft", "serve") for path in (ROOT / folder).rglob("*.py")]
    used = {letter: path for path in paths for letter in letters_of(path)}
    assert {letter: path for letter, path in used.items() if letter not in legend()} == {}
    assert legend() - used.keys() == set(), "the legend has letters that nobody uses"
