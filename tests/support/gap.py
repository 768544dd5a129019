"""Scored rows by hand, for the tests of the gap report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from drsft.gap.scored_texts import Role, Text
from drsft.gap.scoring import TokenScores
from drsft.gap.text_scoring import score_table

__all__ = ["Scored", "scored_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    row_id: str
    source: str
    logprobs: Sequence[float]
    entropy: float = 1.0  # of every token
    role: Role = Role.KEPT
    index: int = 0
    num_thought: int | None = None  # of its first tokens; None: not told, in any of the rows


def scored_rows(rows: Sequence[Scored]) -> pa.Table:
    texts = [
        Text(
            row_id=row.row_id,
            role=row.role,
            index=row.index,
            source=row.source,
            prompt_ids=[1],
            completion_ids=list(range(len(row.logprobs))),
        )
        for row in rows
    ]
    scores = [
        TokenScores(
            logprobs_T=np.array(row.logprobs), entropy_T=np.full(len(row.logprobs), float(row.entropy))
        )
        for row in rows
    ]
    lengths = [row.num_thought for row in rows if row.num_thought is not None]
    return score_table(texts, scores, num_thought_tokens=lengths or None)
