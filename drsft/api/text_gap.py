"""`drsft.gap`: how likely texts in memory are to a model."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drsft.api.settings import section_of, target_of
from drsft.config import Columns, Target
from drsft.errors import InputError
from drsft.gap.datasets import ReadCounts, texts_of_rows
from drsft.gap.report import GapReport, gap_report, heat_maps_of_shown, rows_to_show
from drsft.gap.scored_texts import Text, row_columns, texts_of_records
from drsft.gap.text_scoring import score_texts
from drsft.intake.rows import Row
from drsft.policy.prompts import Prompter, check_length, target_prompter
from drsft.records import Record
from drsft.run.tables import records_to_table
from drsft.train.model import load_for_scoring

__all__ = ["gap"]


def gap(
    rows: Iterable[Mapping[str, Any] | Record],
    model: str | Target,
    *,
    columns: Columns | Mapping[str, Any] | None = None,
) -> GapReport:
    """Returns how likely groups of texts are to `model`, the outliers, and the objective to train with.

    A row is a record, or a mapping with a prompt and a text in the usual spellings: `prompt` and
    `completion`, `messages`, or problem and solution (docs/gap.md); `columns` is the section
    `problems.columns`, or its keys. `model` is a model folder, a hub name, `embedded`, or a run's `target`
    section. Log-probs, entropies and φ are in nats, means over tokens. Raises InputError for a row that holds
    no text, is too long for the model, or is a record made with another tokenizer or other prompts, and
    ModelError for a model that cannot be used.

    >>> rows = [
    ...     {"problem": "What is 3 + 4?", "solution": "3 + 4 = 7. The answer is 7.", "source": "expert"},
    ...     {"problem": "What is 9 - 5?", "solution": "9 - 5 = 4. The answer is 4.", "source": "expert"},
    ... ]
    >>> report = drsft.gap(rows, "embedded")
    >>> kept = report.summary.group("kept")
    >>> kept.num_rows, kept.mean_logprob < 0
    (2, True)
    >>> report.recommendation.objective in ("sft", "dft")
    True
    """
    target = target_of(model)
    check_length(target)
    prompter = target_prompter(target)
    chosen = section_of(Columns, columns, source="columns")
    texts = [text for place, row in enumerate(rows) for text in _texts(place, row, chosen, prompter, target)]
    if not texts:
        raise InputError("gap: there are no rows; give at least one with a prompt and a text")
    scores = score_texts(load_for_scoring(target.model, target.dtype), texts, prompter)
    rows_scored = row_columns(scores)
    return gap_report(
        model=target.model,
        rows=rows_scored,
        heat_maps=heat_maps_of_shown(
            rows_to_show(rows_scored), scores.to_pylist(), prompter.tokenizer.decode
        ),
    )


def _texts(
    place: int, row: Mapping[str, Any] | Record, columns: Columns, prompter: Prompter, target: Target
) -> Iterator[Text]:
    where = f"rows[{place}]"
    if isinstance(row, Record):
        if row.prompt_ids != prompter.plain(row.problem):
            raise InputError(
                f"{where}: the record was made with another tokenizer or other prompts; give the run's "
                "target as a Target, or the record's texts as a row"
            )
        yield from texts_of_records(records_to_table([row]), number=row.round)
        return
    reading = ReadCounts()
    found = texts_of_rows(
        [Row(where, dict(row))], columns, reading, prompter=prompter, max_model_len=target.max_model_len
    )
    for texts in found:
        yield from texts
    if reading.set_aside:
        raise InputError(reading.first)
