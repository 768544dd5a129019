"""Examples packed into rows of exactly `seq_len` tokens, so that a row is a row whatever lies in it.

Axes: B rows, T = seq_len tokens of a row.

Within a row every example is a segment: `segment_ids` count 1, 2, … and `position_ids` restart at 0. What is
left over is padding: segment 0, positions from 0, never in the loss mask. Two examples of 3 and 2 tokens and
T = 6:   segment_ids 1 1 1 2 2 0   position_ids 0 1 2 0 1 0
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drsft.train.encode import Example

__all__ = ["PACKED_SCHEMA", "PackedRows", "best_fit", "pack"]

PADDING_ID = 0  # any token: padding is never learnt, and no other segment sees it

PACKED_SCHEMA = pa.schema(
    [
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("position_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("segment_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("loss_mask", pa.list_(pa.bool_()), nullable=False),
        pa.field("problem_ids", pa.list_(pa.string()), nullable=False),  # of segments 1, 2, …
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """All rows of a data view."""

    input_ids_BT: NDArray[np.int32]
    position_ids_BT: NDArray[np.int32]
    segment_ids_BT: NDArray[np.int32]
    loss_mask_BT: NDArray[np.bool_]
    problem_ids: tuple[tuple[str, ...], ...]  # for each row, of its segments

    def __len__(self) -> int:
        return len(self.input_ids_BT)

    @property
    def seq_len(self) -> int:
        return int(self.input_ids_BT.shape[1])

    def to_table(self) -> pa.Table:
        columns = (self.input_ids_BT, self.position_ids_BT, self.segment_ids_BT, self.loss_mask_BT)
        arrays = [_lists(column_BT) for column_BT in columns]
        problem_ids = pa.array(self.problem_ids, PACKED_SCHEMA.field("problem_ids").type)
        return pa.Table.from_arrays([*arrays, problem_ids], schema=PACKED_SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> "PackedRows":
        return cls(
            input_ids_BT=_matrix(table, "input_ids"),
            position_ids_BT=_matrix(table, "position_ids"),
            segment_ids_BT=_matrix(table, "segment_ids"),
            loss_mask_BT=_matrix(table, "loss_mask"),
            problem_ids=tuple(tuple(row) for row in table["problem_ids"].to_pylist()),
        )


def pack(examples: Sequence[Example], *, seq_len: int) -> PackedRows:
    """Rows by best fit decreasing: the same for the same examples, in whatever order they come."""
    ordered = sorted(examples, key=lambda example: (-len(example.input_ids_T), example.problem_id))
    bins = best_fit([len(example.input_ids_T) for example in ordered], capacity=seq_len)
    shape = (len(bins), seq_len)
    input_ids_BT = np.full(shape, PADDING_ID, dtype=np.int32)
    position_ids_BT = np.zeros(shape, dtype=np.int32)
    segment_ids_BT = np.zeros(shape, dtype=np.int32)
    loss_mask_BT = np.zeros(shape, dtype=np.bool_)
    for row, members in enumerate(bins):
        end = 0
        for segment, member in enumerate(members, start=1):
            example = ordered[member]
            start, end = end, end + len(example.input_ids_T)
            input_ids_BT[row, start:end] = example.input_ids_T
            position_ids_BT[row, start:end] = np.arange(end - start)
            segment_ids_BT[row, start:end] = segment
            loss_mask_BT[row, start:end] = example.loss_mask_T
        position_ids_BT[row, end:] = np.arange(seq_len - end)
    return PackedRows(
        input_ids_BT=input_ids_BT,
        position_ids_BT=position_ids_BT,
        segment_ids_BT=segment_ids_BT,
        loss_mask_BT=loss_mask_BT,
        problem_ids=tuple(tuple(ordered[member].problem_id for member in members) for members in bins),
    )


def best_fit(lengths: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Puts each length, in the given order, into the fullest bin that still has room.

    [4, 3, 2, 1] with capacity 5 -> [[0, 3], [1, 2]]   (bins hold indices)
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, bin), sorted: the first that is large enough fits best
    for index, length in enumerate(lengths):
        if not 0 < length <= capacity:
            raise ValueError(f"length {length} at {index} does not fit 1…{capacity}")
        place = bisect_left(rooms, (length, 0))
        if place == len(rooms):
            bins.append([])
            room, target = capacity, len(bins) - 1
        else:
            room, target = rooms.pop(place)
        bins[target].append(index)
        if room > length:
            insort(rooms, (room - length, target))
    return bins


def _lists(values_BT: NDArray[np.generic]) -> pa.Array:
    num_rows, seq_len = values_BT.shape
    offsets = pa.array(np.arange(num_rows + 1, dtype=np.int32) * seq_len)
    return pa.ListArray.from_arrays(offsets, pa.array(values_BT.reshape(-1)))


def _matrix(table: pa.Table, name: str) -> Any:
    column = table[name].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.reshape(len(column), -1))
