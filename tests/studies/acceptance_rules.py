"""What acceptance rules are worth: one arm of several runs that differ in `rewrite.grounding` alone.

    python -m tests.studies.acceptance_rules RUN... [--arm dr+dft]

Reads what `drsft run` left behind and prints a Markdown table for each benchmark; nothing is trained or
sampled. Differences are paired by problem, and against the first run.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

from drsft.config import Benchmark, Grounding
from drsft.errors import InputError
from drsft.evaluate.results import ArmScore, arm_scores
from drsft.evaluate.scores import compare
from drsft.records import Source
from drsft.run import layout
from drsft.run.run import Run, find_run
from tests.studies.experiment import Soundness, markdown_table, score_cell, soundness

__all__ = ["rule_table", "rules_of"]

_HEAD = (
    "run", "rules", "alone", "guided", "expert", "nats a token closer than the experts' texts",
    "avg@k", "less the first", "right samples whose equations hold, %",
)  # fmt: skip


def rule_table(runs: Sequence[Run], arm: str, benchmark: Benchmark) -> str:
    """Raises InputError where a run has not evaluated the arm."""
    scored = [_score_of(run, arm, benchmark.name) for run in runs]
    lines = []
    for run, one in zip(runs, scored, strict=True):
        kept = Counter(record.source for _, record in run.each_record())
        lines.append(
            [
                run.config.name,
                rules_of(run.config.rewrite.grounding),
                *(str(kept[source]) for source in (Source.OWN, Source.REWRITTEN, Source.EXPERT)),
                _closer(run),
                score_cell(one),
                "" if one is scored[0] else _difference(one, scored[0]),
                _holding(soundness(run, benchmark, arm)),
            ]
        )
    return markdown_table(_HEAD, lines)


def _score_of(run: Run, arm: str, benchmark: str) -> ArmScore:
    for one in arm_scores(run):
        if one.arm == arm and one.benchmark == benchmark:
            return one
    raise InputError(f"run {run.config.run_id} has no evaluated arm {arm!r}; start it with drsft run")


def rules_of(grounding: Grounding | None) -> str:
    """Returns what a right guided solution must show, besides nothing that speaks against every solution."""
    if grounding is None:
        return "answer"
    asked = {
        "calculation": grounding.derives_answer,
        "equations": not grounding.derives_answer and grounding.min_equations > 0,
        "log-prob": grounding.min_answer_logprob is not None,
        "gap": grounding.narrows_gap,
    }
    return ", ".join(["answer", *(name for name, is_asked in asked.items() if is_asked)])


def _closer(run: Run) -> str:
    """Returns what the gap report says of all rows that replace an expert's text, with its 95 % interval."""
    found = json.loads(run.store.read(layout.GAP.report))["summary"]["improvement"]
    bounds = f"{found['low']:.2f} to {found['high']:.2f}"
    return f"{found['value']:+.2f} ({bounds}; {found['share_positive']:.0%} gain)"


def _difference(one: ArmScore, first: ArmScore) -> str:
    found = compare(one.samples, first.samples)
    if found is None:
        return "other problems"
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _holding(found: Soundness) -> str:
    return f"{100 * found.num_holding / max(found.num_right, 1):.1f} of {found.num_right}"


def main(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders or s3:// URLs of runs.")],
    arm: Annotated[str, typer.Option(help="The arm to compare, which all runs have.")] = "dr+dft",
) -> None:
    """What acceptance rules are worth, as Markdown; trains and samples nothing."""
    found = [find_run(run) for run in runs]
    for benchmark in found[0].config.evaluate.benchmarks:
        print(f"## {benchmark.name}\n\n{rule_table(found, arm, benchmark)}")


if __name__ == "__main__":
    typer.run(main)
