"""The theorem behind the gap report, on real samples: E phi = 0 for what a model draws at temperature 1.

The sum of phi over a text is a martingale, so the mean over tokens is zero whatever ends the texts. Samples
that were selected, for being right or with help in view, are no longer draws of that kind.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from drsft.errors import InputError
from drsft.gap.scored_texts import Role, Text
from drsft.gap.scoring import score_rows
from drsft.gap.summary import GapSummary, summarise
from drsft.gap.text_scoring import score_table
from drsft.policy.prompts import model_location
from drsft.records import Outcome
from drsft.run.run import Run, find_run
from drsft.train.model import load_model

__all__ = ["bench_theorem", "print_theorem"]

OWN, OWN_RIGHT, GUIDED_RIGHT, EXPERT = "own, all", "own, right", "guided, right", "expert"


def bench_theorem(run: Run) -> GapSummary:
    """Raises InputError for a run that did not sample at temperature 1 from the whole vocabulary."""
    config = run.config
    stage = config.rewrite.self_align
    if (stage.temperature, stage.top_p) != (1.0, 1.0):
        raise InputError("the theorem is about temperature 1 and top_p 1; this run sampled otherwise")
    texts = [
        text
        for _, table in run.record_tables()
        for record in table.to_pylist()
        for text in _texts(record, wave_size=stage.wave_size)
    ]
    model = load_model(model_location(config.target.model)).eval()
    scores = score_rows(model, [(text.prompt_ids, text.completion_ids) for text in texts])
    return summarise(model=config.target.model, rows=score_table(texts, scores))


def _texts(record: dict[str, Any], *, wave_size: int) -> Iterator[Text]:
    def text(source: str, ids: list[int], index: int = 0) -> Text:
        return Text(
            row_id=record["problem_id"],
            role=Role.KEPT,
            index=index,
            source=source,
            prompt_ids=record["prompt_ids"],
            completion_ids=ids,
        )

    for attempt in record["attempts"]:
        is_right = attempt["outcome"] == Outcome.CORRECT.value
        drawn = text(OWN, attempt["token_ids"], attempt["sample_index"])
        if attempt["stage"] == "self_align" and attempt["sample_index"] < wave_size:
            yield drawn
            if is_right:
                yield replace(drawn, source=OWN_RIGHT)
        elif attempt["stage"] == "guided" and is_right:
            yield replace(drawn, source=GUIDED_RIGHT)
    yield text(EXPERT, record["expert_completion_ids"])


def print_theorem(summary: GapSummary, console: Console | None = None) -> None:
    table = Table("texts", "rows", "tokens", "φ̄", "95 % interval", "log-prob")
    for group in summary.groups:
        if group.name != "kept" and group.low_phi is not None and group.high_phi is not None:
            table.add_row(
                group.name,
                f"{group.num_rows:,}",
                f"{group.num_tokens:,}",
                f"{group.mean_phi:+.4f}",
                f"{group.low_phi:+.4f} to {group.high_phi:+.4f}",
                f"{group.mean_logprob:+.3f}",
            )
    (console or Console()).print(table)


def main(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A rewritten run: folder, s3:// URL or CONFIG.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
) -> None:
    """Whether the model's own samples at temperature 1 have a mean phi of zero, and what has not.

    Scores every sample of a run's first waves, which were drawn whatever became of the others.
    """
    print_theorem(bench_theorem(find_run(run, overrides or ())))


if __name__ == "__main__":
    typer.run(main)
