"""Texts to score and their scores, as the Arrow tables that are stored and that filters read.

Axes: T tokens of one text. Log-probs, entropies and phi are in nats, under one model with the plain prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from drsft.config.objectives import ChordPhi, Dft, DftGeomean, Idft, IdftPhiClip, Objective, Sft, Srft
from drsft.gap.scoring import CausalLM, TokenScores, score_rows
from drsft.objectives.statistics import TokenStatistics
from drsft.objectives.weights import TokenContext, token_weights
from drsft.policy.prompts import Prompter
from drsft.records import Source
from drsft.run.layout import GAP, GapFolder
from drsft.run.shards import ShardSet
from drsft.storage import Store

__all__ = [
    "COMPARED",
    "PART_COLUMNS",
    "PHI_THRESHOLDS",
    "ROW_COLUMNS",
    "SCORE_SCHEMA",
    "TEXT_SCHEMA",
    "Role",
    "Text",
    "row_columns",
    "score_table",
    "score_texts",
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
    SAMPLE = "sample"  # the target's own first unguided one, right or wrong: what phi is zero for


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
_WHAT = [
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("role", pa.string(), nullable=False),
    pa.field("index", pa.int32(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
]
TEXT_SCHEMA = pa.schema(
    [
        *_WHAT,
        pa.field("prompt_ids", _IDS, nullable=False),
        pa.field("completion_ids", _IDS, nullable=False),
    ]
)


def _number(name: str) -> pa.Field:
    return pa.field(name, pa.float64(), nullable=False)


ROW_FIELDS = [
    *_WHAT,
    pa.field("num_tokens", pa.int32(), nullable=False),
    _number("mean_logprob"),
    _number("mean_entropy"),
    _number("mean_phi"),
    *(_number(f"phi_below_{-threshold}") for threshold in PHI_THRESHOLDS),  # shares of the tokens
    *(_number(f"{what}_{one.kind}") for one in COMPARED for what in ("mean_weight", "mean_squared_weight")),
]
ROW_COLUMNS = tuple(field.name for field in ROW_FIELDS)
# ROW_COLUMNS name the scores' folder. These do not, so an older version's scores, without them, stay in use.
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
    """Returns the stored scores of the run's own texts, or of the texts of `folder`."""
    return ShardSet(store, folder.scores(ROW_COLUMNS))


def texts_of_records(records: pa.Table, *, number: int) -> Iterator[Text]:
    """Yields the texts of each record: those trained on, the demonstration, and one unguided sample.

    The sample is the first by the target of round `number`; later rounds' records also hold earlier targets'
    attempts.
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


def score_table(
    texts: Sequence[Text],
    scores: Sequence[TokenScores],
    *,
    num_thought_tokens: Sequence[int] | None = None,
) -> pa.Table:
    """Returns one row for each text: means over its tokens, and each token's numbers (SCORE_SCHEMA).

    `num_thought_tokens` is how many of each text's first tokens are its thought; None if unknown.
    """
    columns: dict[str, Any] = {
        name: [getattr(text, name) for text in texts] for name in (*pa.schema(_WHAT).names, "completion_ids")
    }
    columns["logprobs"] = [one.logprobs_T for one in scores]
    columns["entropy"] = [one.entropy_T for one in scores]
    columns["num_tokens"] = [len(one.logprobs_T) for one in scores]
    if not texts:
        return SCORE_SCHEMA.empty_table()
    columns |= _thought_columns(scores, num_thought_tokens)
    logprobs_T = np.concatenate(columns["logprobs"])
    entropy_T = np.concatenate(columns["entropy"])
    ends = np.cumsum(columns["num_tokens"])
    columns |= {
        name: _means(values_T, ends)
        for name, values_T in _token_columns(logprobs_T, entropy_T, columns["num_tokens"]).items()
    }
    return pa.table(columns, schema=SCORE_SCHEMA)


def score_texts(model: CausalLM, texts: Sequence[Text], prompter: Prompter) -> pa.Table:
    """Returns the `score_table` of the texts under `model`, the prompter's model.

    The table separates thoughts from answers if the model's turn has thoughts.
    """
    scores = score_rows(model, [(text.prompt_ids, text.completion_ids) for text in texts])
    if prompter.turn.thought is None:
        return score_table(texts, scores)
    lengths = [prompter.split(text.completion_ids).num_thought_tokens for text in texts]
    return score_table(texts, scores, num_thought_tokens=lengths)


def _thought_columns(
    scores: Sequence[TokenScores], num_thought_tokens: Sequence[int] | None
) -> dict[str, Sequence[float | None]]:
    """Returns the sums over each text's thought.

    They are sums, not means, so that subtracting them from the text's totals gives the answers' sums.
    """
    if num_thought_tokens is None:
        return {name: [None] * len(scores) for name in PART_COLUMNS}
    parts = list(zip(scores, num_thought_tokens, strict=True))
    return {
        "num_thought_tokens": num_thought_tokens,
        "sum_thought_logprob": [float(one.logprobs_T[:length].sum()) for one, length in parts],
        "sum_thought_phi": [float(one.phi_T[:length].sum()) for one, length in parts],
    }


def _token_columns(
    logprobs_T: NDArray[np.float64], entropy_T: NDArray[np.float64], lengths: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Returns the per-token values to be averaged over each text, by column."""
    phi_T = logprobs_T + entropy_T
    columns = {"mean_logprob": logprobs_T, "mean_entropy": entropy_T, "mean_phi": phi_T}
    for threshold in PHI_THRESHOLDS:
        columns[f"phi_below_{-threshold}"] = (phi_T < threshold).astype(np.float64)
    statistics = TokenStatistics(torch.from_numpy(logprobs_T), torch.from_numpy(entropy_T))
    document_ids_T = torch.repeat_interleave(torch.tensor(lengths))
    context = TokenContext.at_start(statistics, document_ids_T)
    for objective in COMPARED:
        weight_T = token_weights(objective, statistics, context).numpy()
        columns[f"mean_weight_{objective.kind}"] = weight_T
        columns[f"mean_squared_weight_{objective.kind}"] = weight_T**2
    return columns


def _means(values_T: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the mean of each text's segment; `ends` are the indices where the segments end."""
    starts = np.concatenate([[0], ends[:-1]])
    means: NDArray[np.float64] = np.add.reduceat(values_T, starts) / (ends - starts)
    return means
