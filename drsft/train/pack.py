"""Packs examples into rows of at most `seq_len` tokens, so that all rows cost about the same time.

Axes: T tokens end to end (of all rows, or of some documents), M documents, R rows.

A document is one whole example; documents never attend to each other. A row is stored without padding, so
unused space up to `seq_len` costs nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drsft.train.encode import Example

__all__ = ["PACKED_SCHEMA", "Documents", "PackedRows", "best_fit", "pack"]

PACKED_SCHEMA = pa.schema(
    [
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("loss_mask", pa.list_(pa.bool_()), nullable=False),
        pa.field("thought_mask", pa.list_(pa.bool_()), nullable=False),  # older tables have none
        pa.field("document_lengths", pa.list_(pa.int32()), nullable=False),
        pa.field("problem_ids", pa.list_(pa.string()), nullable=False),  # of the documents
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """Some concatenated documents: T tokens without padding, and where each document ends."""

    input_ids_T: NDArray[np.int32]
    loss_mask_T: NDArray[np.bool_]  # true where the token itself is learnt; never at a document's first
    thought_mask_T: NDArray[np.bool_]  # the learnt tokens that belong to thoughts
    lengths: tuple[int, ...]

    @property
    def position_ids_T(self) -> NDArray[np.int64]:  # noqa: N802 - an axis suffix
        """Positions that restart at 0 in every document: lengths (3, 2) -> 0 1 2 0 1."""
        return np.concatenate([np.arange(length) for length in self.lengths])


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """All packed rows of a data view. Offsets start with 0 and end with the total."""

    seq_len: int  # no row is longer
    input_ids_T: NDArray[np.int32]
    loss_mask_T: NDArray[np.bool_]
    thought_mask_T: NDArray[np.bool_]
    document_offsets: NDArray[np.int64]  # (M + 1,) in tokens
    row_offsets: NDArray[np.int64]  # (R + 1,) in documents
    problem_ids: tuple[str, ...]  # (M,)

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def share_filled(self) -> float:
        return len(self.input_ids_T) / (len(self) * self.seq_len)

    def row_lengths(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the number of tokens in each of the rows."""
        starts, ends = self._bounds(rows)
        return ends - starts

    def num_tokens(self, rows: Sequence[int] | NDArray[np.int64]) -> int:
        return int(self.row_lengths(rows).sum())

    def num_loss_tokens(self, rows: Sequence[int] | NDArray[np.int64]) -> int:
        return self._count(self.loss_mask_T, rows)

    def loss_weight(self, rows: Sequence[int] | NDArray[np.int64], *, thought_weight: float) -> float:
        """Returns the number of loss tokens of the rows, where a token of a thought counts as
        `thought_weight`.
        """
        num_thought = self._count(self.thought_mask_T, rows)
        return self.num_loss_tokens(rows) - num_thought + thought_weight * num_thought

    def _count(self, mask_T: NDArray[np.bool_], rows: Sequence[int] | NDArray[np.int64]) -> int:
        return sum(int(mask_T[start:end].sum()) for start, end in zip(*self._bounds(rows), strict=True))

    def documents(self, rows: Sequence[int] | NDArray[np.int64]) -> Documents:
        """Returns the documents of `rows`, row after row; `rows` must not be empty."""
        spans = [slice(start, end) for start, end in zip(*self._bounds(rows), strict=True)]
        lengths = np.diff(self.document_offsets)
        return Documents(
            input_ids_T=np.concatenate([self.input_ids_T[span] for span in spans]),
            loss_mask_T=np.concatenate([self.loss_mask_T[span] for span in spans]),
            thought_mask_T=np.concatenate([self.thought_mask_T[span] for span in spans]),
            lengths=tuple(
                int(length)
                for row in rows
                for length in lengths[self.row_offsets[row] : self.row_offsets[row + 1]]
            ),
        )

    def span(self, row: int) -> tuple[int, int]:
        """Returns the index of a row's first token among all tokens, and that after its last token."""
        (start,), (end,) = self._bounds([row])
        return int(start), int(end)

    def problem_ids_of(self, row: int) -> tuple[str, ...]:
        return self.problem_ids[self.row_offsets[row] : self.row_offsets[row + 1]]

    def _bounds(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        indices = np.asarray(rows, dtype=np.int64)
        return (
            self.document_offsets[self.row_offsets[indices]],
            self.document_offsets[self.row_offsets[indices + 1]],
        )

    @classmethod
    def of(cls, rows: Sequence[Sequence[Example]], *, seq_len: int) -> "PackedRows":
        """Returns the given rows of examples as packed rows, in the given order.

        The examples of a row have at most `seq_len` tokens together.
        """
        documents = [document for row in rows for document in row]
        return cls(
            seq_len=seq_len,
            input_ids_T=np.concatenate([document.input_ids_T for document in documents]),
            loss_mask_T=np.concatenate([document.loss_mask_T for document in documents]),
            thought_mask_T=np.concatenate([document.thought_mask_T for document in documents]),
            document_offsets=_offsets([len(document.input_ids_T) for document in documents]),
            row_offsets=_offsets([len(row) for row in rows]),
            problem_ids=tuple(document.problem_id for document in documents),
        )

    def to_table(self) -> pa.Table:
        token_offsets = pa.array(self.document_offsets[self.row_offsets], pa.int32())
        row_offsets = pa.array(self.row_offsets, pa.int32())
        lengths = np.diff(self.document_offsets).astype(np.int32)
        arrays = [
            pa.ListArray.from_arrays(token_offsets, pa.array(self.input_ids_T)),
            pa.ListArray.from_arrays(token_offsets, pa.array(self.loss_mask_T)),
            pa.ListArray.from_arrays(token_offsets, pa.array(self.thought_mask_T)),
            pa.ListArray.from_arrays(row_offsets, pa.array(lengths)),
            pa.ListArray.from_arrays(row_offsets, pa.array(self.problem_ids, pa.string())),
        ]
        schema = PACKED_SCHEMA.with_metadata({"seq_len": str(self.seq_len)})
        return pa.Table.from_arrays(arrays, schema=schema)

    @classmethod
    def from_table(cls, table: pa.Table) -> "PackedRows":
        def flat(name: str) -> pa.Array:
            return table[name].combine_chunks().flatten()

        counts = [len(lengths) for lengths in table["document_lengths"]]
        loss_mask_T = flat("loss_mask").to_numpy(zero_copy_only=False)
        has_thoughts = "thought_mask" in table.column_names
        return cls(
            seq_len=int(table.schema.metadata[b"seq_len"]),
            input_ids_T=flat("input_ids").to_numpy(zero_copy_only=False),
            loss_mask_T=loss_mask_T,
            thought_mask_T=flat("thought_mask").to_numpy(zero_copy_only=False)
            if has_thoughts
            else np.zeros_like(loss_mask_T),
            document_offsets=_offsets(flat("document_lengths").to_pylist()),
            row_offsets=_offsets(counts),
            problem_ids=tuple(flat("problem_ids").to_pylist()),
        )


def pack(examples: Sequence[Example], *, seq_len: int, seed: int = 0, one_a_row: bool = False) -> PackedRows:
    """Returns rows packed by best fit in a seeded random order; with `one_a_row` each example is a row.

    The result does not depend on the order of `examples`. They are not sorted by length, as in best fit
    decreasing: rows of only short or only long texts make a jagged loss curve, and with many texts per row a
    random order needs hardly more rows.
    """
    ordered = sorted(examples, key=lambda example: (example.problem_id, example.input_ids_T.tobytes()))
    ordered = [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))]
    if one_a_row:
        return PackedRows.of([[example] for example in ordered], seq_len=seq_len)
    bins = best_fit([len(example.input_ids_T) for example in ordered], capacity=seq_len)
    return PackedRows.of([[ordered[member] for member in members] for members in bins], seq_len=seq_len)


def best_fit(lengths: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Returns bins of indices: each length goes, in the given order, into the fullest bin that has room.

    [4, 3, 2, 1] with capacity 5 -> [[0, 3], [1, 2]]   (bins hold indices)
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, bin), sorted: the first that is large enough fits best
    for index, length in enumerate(lengths):
        if not 0 < length <= capacity:
            raise ValueError(f"the text at index {index} has {length} tokens; a row can have 1 to {capacity}")
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


def _offsets(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
