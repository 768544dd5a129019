"""Defines the Arrow tables of texts to score and of their scores. Filters read them. Imports no torch.

Axes: T tokens of a text. Log-probs, entropies and phi (log-prob plus entropy) are in nats, under one model
and after the plain prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from drsft.config.objectives import ChordPhi, Dft, DftGeomean, Idft, IdftPhiClip, Objective, Sft, Srft
from drsft.records import Source
from drsft.run.layout import GAP, GapFolder
from drsft.run.shards import ShardSet
from drsft.storage import Store

__all__ = [
    "COMPARED",
    "IDENTITY_COLUMNS",
    "PART_COLUMNS",
    "PHI_THRESHOLDS",
    "ROW_COLUMNS",
    "SCORE_SCHEMA",
    "TEXT_SCHEMA",
    "Role",
    "Text",
    "row_columns",
    "scores_of",
    "texts_from_table",
    "texts_of_records",
    "texts_to_table",
]

PHI_THRESHOLDS = (-1, -3, -5)
# Objectives whose weight follows from log p and entropy alone; ratios to the frozen start would be 1.
COMPARED: tuple[Objective, ...] = (
    Sft(), Dft(), DftGeomean(), Idft(), IdftPhiClip(), ChordPhi(), Srft(),
)  # fmt: skip


class Role(StrEnum):
    """The part that a text has in its row: kept, demonstration or sample."""

    KEPT = "kept"  # would be trained on
    DEMONSTRATION = "demonstration"  # the expert's, whether it was replaced or not
    SAMPLE = "sample"  # the target's first unguided sample, right or wrong; its expected phi is zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One completion of a plain prompt. `row_id` is the problem's id, or a row's place in its file."""

    row_id: str
    role: Role
    index: int = 0  # of several kept ones
    source: str
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]


_IDS = pa.list_(pa.int32())
_NUMBERS = pa.list_(pa.float32())
_IDENTITY_FIELDS = [
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("role", pa.string(), nullable=False),
    pa.field("index", pa.int32(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
]
IDENTITY_COLUMNS = tuple(field.name for field in _IDENTITY_FIELDS)  # which text a row is of
TEXT_SCHEMA = pa.schema(
    [
        *_IDENTITY_FIELDS,
        pa.field("prompt_ids", _IDS, nullable=False),
        pa.field("completion_ids", _IDS, nullable=False),
    ]
)


def _number(name: str) -> pa.Field:
    return pa.field(name, pa.float64(), nullable=False)


ROW_FIELDS = [
    *_IDENTITY_FIELDS,
    pa.field("num_tokens", pa.int32(), nullable=False),
    _number("mean_logprob"),
    _number("mean_entropy"),
    _number("mean_phi"),
    *(_number(f"phi_below_{-threshold}") for threshold in PHI_THRESHOLDS),  # shares of the tokens
    *(_number(f"{what}_{one.kind}") for one in COMPARED for what in ("mean_weight", "mean_squared_weight")),
]
ROW_COLUMNS = tuple(field.name for field in ROW_FIELDS)
# ROW_COLUMNS name the scores' folder. These columns do not, so older scores without them can still be used.
PART_FIELDS = [
    pa.field("num_thought_tokens", pa.int32()),  # null: not told apart
    pa.field("sum_thought_logprob", pa.float64()),
    pa.field("sum_thought_phi", pa.float64()),
]
PART_COLUMNS = tuple(field.name for field in PART_FIELDS)
SCORE_SCHEMA = pa.schema(
    [
        *ROW_FIELDS,
        *PART_FIELDS,
        pa.field("completion_ids", _IDS, nullable=False),
        pa.field("logprobs", _NUMBERS, nullable=False),
        pa.field("entropy", _NUMBERS, nullable=False),
    ]
)


def scores_of(store: Store, folder: GapFolder = GAP) -> ShardSet:
    """Returns the shards with the stored scores of the run's own texts, or of the texts of `folder`."""
    return ShardSet(store, folder.scores(ROW_COLUMNS))


def texts_of_records(records: pa.Table, *, number: int) -> Iterator[Text]:
    """Yields the texts of each record: those trained on, the demonstration, and one unguided sample.

    The sample is the first one by the target of round `number`, since records of later rounds also contain
    attempts of earlier targets.
    """
    for row in records.to_pylist():
        what = {"row_id": row["problem_id"], "prompt_ids": row["prompt_ids"]}
        if row["source"] != Source.DROPPED.value:
            kept = [row["completion_ids"], *(one["token_ids"] for one in row["also_kept"] or ())]
            for index, ids in enumerate(kept):
                yield Text(**what, role=Role.KEPT, index=index, source=row["source"], completion_ids=ids)
        expert = row["expert_completion_ids"]
        if expert:
            yield Text(**what, role=Role.DEMONSTRATION, source=Source.EXPERT.value, completion_ids=expert)
        own = (one for one in row["attempts"] or () if _round_of(one, row) == number)
        first = next(filter(_is_first_sample, own), None)
        if first is not None:
            yield Text(**what, role=Role.SAMPLE, source=Source.OWN.value, completion_ids=first["token_ids"])


def _is_first_sample(attempt: dict[str, Any]) -> bool:
    """Returns whether an attempt is the first unguided sample.

    Only this one is drawn unconditionally; later samples exist only where earlier ones failed.
    """
    return attempt["stage"] == "self_align" and attempt["sample_index"] == 0 and bool(attempt["token_ids"])


def _round_of(attempt: dict[str, Any], record: dict[str, Any]) -> int:
    """Returns the round of an attempt.

    Older schemas store the record's round only, or none, which counts as 1.
    """
    return int(attempt.get("round") or record.get("round", 1))


def texts_to_table(texts: Sequence[Text]) -> pa.Table:
    columns = {name: [getattr(text, name) for text in texts] for name in TEXT_SCHEMA.names}
    return pa.table(columns, schema=TEXT_SCHEMA)


def texts_from_table(table: pa.Table) -> list[Text]:
    return [Text(**{**row, "role": Role(row["role"])}) for row in table.to_pylist()]


def row_columns(scores: pa.Table) -> pa.Table:
    """Returns the ROW_COLUMNS and PART_COLUMNS of a table of scores; the latter are null in older tables."""
    for field in PART_FIELDS:
        if field.name not in scores.column_names:
            scores = scores.append_column(field, pa.nulls(scores.num_rows, field.type))
    return scores.select([*ROW_COLUMNS, *PART_COLUMNS])
