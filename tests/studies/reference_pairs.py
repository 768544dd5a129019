"""All references of labelled cases against each other: prints the pairs that the verifier accepts.

Each pair is judged in both orders; texts that differ in nothing but typing are left out.
"""

import gzip
import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from drsft.records import Outcome
from drsft.verify.extraction.reference_answer import reference_answer
from drsft.verify.maths.normalise import clean
from drsft.verify.maths.same import same_math

__all__ = ["accepted_pairs", "references"]


def references(*files: Path) -> list[str]:
    """The distinct mathematical references of files of labelled cases, in their order."""
    found: dict[str, str] = {}
    for path in files:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            rows = [json.loads(line) for line in lines]
        for row in rows:
            answer = reference_answer(row["reference"])
            if answer is not None and row.get("kind", "math") != "choice":
                found.setdefault("".join(clean(answer).split()), answer)
    return list(found.values())


def accepted_pairs(texts: list[str], reasons: Counter[str]) -> list[tuple[str, str]]:
    """The pairs that are accepted in at least one order; counts the reasons of all."""
    accepted = []
    for first, second in combinations(texts, 2):
        findings = [same_math(first, second), same_math(second, first)]
        reasons[findings[0][1]] += 1
        if any(outcome is Outcome.CORRECT for outcome, _ in findings):
            accepted.append((first, second))
    return accepted


def main(files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Labelled cases.")]) -> None:
    """All references of labelled cases against each other, and the pairs that are accepted."""
    texts = references(*files)
    reasons: Counter[str] = Counter()
    pairs = accepted_pairs(texts, reasons)
    for first, second in pairs:
        print(f"{first!r:40} {second!r}")
    print(f"{len(texts)} references, {len(texts) * (len(texts) - 1) // 2:,} pairs, {len(pairs)} accepted")
    print(dict(reasons.most_common()))


if __name__ == "__main__":
    typer.run(main)
