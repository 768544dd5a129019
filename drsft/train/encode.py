"""Turns records into examples: stored token ids, and the loss mask, which only this module decides.

Axes: T tokens of one example (prompt and completion).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drsft.config import DataView
from drsft.errors import StageError
from drsft.records import Source

__all__ = ["Encoding", "Example", "ThoughtLength", "encode"]

ThoughtLength = Callable[[Sequence[int]], int]  # how many of a completion's first ids are its thought


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    problem_id: str
    source: str
    input_ids_T: NDArray[np.int32]  # plain prompt, then completion with its end-of-turn token
    loss_mask_T: NDArray[
        np.bool_
    ]  # true on the completion, or on its answer alone; unshifted: it says which tokens are learnt
    thought_mask_T: NDArray[np.bool_]  # true on the learnt tokens of a thought


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    examples: list[Example]
    num_too_long: int
    num_without_answer: int = 0  # nothing but a thought, where thoughts are masked: no token to learn


def encode(
    records: pa.Table,
    *,
    data: DataView,
    seq_len: int,
    thought_length: ThoughtLength | None = None,
    are_masked: bool = True,
) -> Encoding:
    """Returns the training examples of the records, in the table's order.

    An example's completion is `completion_ids` or, for EXPERT, `expert_completion_ids`. Texts of more than
    `seq_len` tokens are left out and counted: a truncated completion would lose its answer and its end of
    turn, and so teach the model never to stop. With `thought_length`, thoughts are found: if `are_masked`,
    they are not learnt, and texts with nothing else are left out and counted; else they are marked in
    `thought_mask_T`. Raises StageError if prompt or completion is empty.
    """
    examples = []
    num_too_long = num_without_answer = 0
    for row in records.to_pylist():
        source = Source.EXPERT.value if data == DataView.EXPERT else row["source"]
        for completion_ids in _completions(row, data):
            if not row["prompt_ids"] or not completion_ids:
                empty = "completion_ids" if row["prompt_ids"] else "prompt_ids"
                raise StageError(f"problem {row['problem_id']}: its record has empty {empty}")
            num_thought = 0 if thought_length is None else thought_length(completion_ids)
            if len(row["prompt_ids"]) + len(completion_ids) > seq_len:
                num_too_long += 1
            elif are_masked and num_thought == len(completion_ids):
                num_without_answer += 1
            else:
                example = _example(row, source, completion_ids, num_thought=num_thought, is_masked=are_masked)
                examples.append(example)
    return Encoding(examples=examples, num_too_long=num_too_long, num_without_answer=num_without_answer)


def _completions(row: dict[str, Any], data: DataView) -> list[list[int]]:
    """Returns the completions learnt for one problem: one, several if several are kept, or none."""
    if data == DataView.EXPERT:
        return [row["expert_completion_ids"]]
    if row["source"] == Source.DROPPED.value:
        return []
    return [row["completion_ids"], *(kept["token_ids"] for kept in row.get("also_kept") or ())]


def _example(
    row: dict[str, Any], source: str, completion_ids: list[int], *, num_thought: int, is_masked: bool
) -> Example:
    input_ids_T = np.array(row["prompt_ids"] + completion_ids, dtype=np.int32)
    is_completion_T = np.arange(len(input_ids_T)) >= len(row["prompt_ids"])
    is_answer_T = np.arange(len(input_ids_T)) >= len(row["prompt_ids"]) + num_thought
    loss_mask_T = is_answer_T if is_masked else is_completion_T
    return Example(
        problem_id=row["problem_id"],
        source=source,
        input_ids_T=input_ids_T,
        loss_mask_T=loss_mask_T,
        thought_mask_T=loss_mask_T & ~is_answer_T,
    )
