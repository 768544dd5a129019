"""Stores the packed rows of a data view: those to train on, and those held out."""

import json
from dataclasses import dataclass

import pyarrow as pa

from drsft.config import DataView, Train
from drsft.errors import StageError
from drsft.records import stable_seed
from drsft.run import layout
from drsft.storage import Store, read_table, table_bytes
from drsft.train.encode import Encoding, Example, ThoughtLength, encode
from drsft.train.pack import PackedRows, pack

__all__ = ["PackedData", "is_packed", "pack_data", "read_packed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedData:
    learnt: PackedRows
    held_out: PackedRows | None


def is_packed(store: Store, data: DataView, train: Train) -> bool:
    return store.exists(layout.packed_rows(train, data).commit)


def pack_data(
    store: Store,
    records: pa.Table,
    data: DataView,
    train: Train,
    *,
    thought_length: ThoughtLength | None = None,
) -> None:
    """Writes the packed rows of a data view, then their counts as the commit; does nothing if there is a
    commit.

    `thought_length` finds thoughts; None if the target has none. Raises StageError if nothing is left to
    train on.
    """
    keys, seq_len = layout.packed_rows(train, data), train.seq_len
    if is_packed(store, data, train):
        return
    encoding = encode(
        records,
        data=data,
        seq_len=seq_len,
        thought_length=thought_length,
        are_masked=train.thought_weight == 0,
    )
    if not encoding.examples:
        raise StageError(_why_empty(encoding, data, seq_len))
    learnt, held_out = _split(encoding.examples, train.validation_share)
    rows = pack(learnt, seq_len=seq_len, one_a_row=not train.packing)
    store.put(keys.learnt, table_bytes(rows.to_table()))
    if held_out:
        validation = pack(held_out, seq_len=seq_len, one_a_row=not train.packing)
        store.put(keys.held_out, table_bytes(validation.to_table()))
    commit = {
        "examples": len(learnt),
        "held_out": len(held_out),
        "dropped_too_long": encoding.num_too_long,
        "rows": len(rows),
        "seq_len": seq_len,
        "tokens": len(rows.input_ids_T),
        "loss_tokens": int(rows.loss_mask_T.sum()),
        "share_filled": round(rows.share_filled, 4),
    }
    if train.thoughts != "keep":
        commit["dropped_without_answer"] = encoding.num_without_answer
    store.create(keys.commit, json.dumps(commit).encode())


def _why_empty(encoding: Encoding, data: DataView, seq_len: int) -> str:
    if encoding.num_without_answer:
        return (
            f"no {data} text that fits train.seq_len = {seq_len} has an answer behind its thought "
            f"({encoding.num_without_answer} have none); set train.thoughts: keep, or leave "
            "out arms with this data"
        )
    if encoding.num_too_long:
        return (
            f"no record fits train.seq_len = {seq_len} tokens ({encoding.num_too_long} are longer); "
            "raise train.seq_len"
        )
    return f"there is no {data} data to train on: no sample was accepted; leave out arms with this data"


def _split(examples: list[Example], validation_share: float) -> tuple[list[Example], list[Example]]:
    """Returns learnt and held-out examples, split by problem, so that no problem is on both sides."""

    def is_held_out(example: Example) -> bool:
        return stable_seed(0, "validation", example.problem_id) % 10_000 < validation_share * 10_000

    learnt = [example for example in examples if not is_held_out(example)]
    held_out = [example for example in examples if is_held_out(example)]
    if not learnt or (validation_share and not held_out):
        raise StageError(
            f"with train.validation_share = {validation_share}, {len(held_out)} of {len(examples)} texts are "
            "held out; at least one must be held out and one trained on: change it or add problems"
        )
    return learnt, held_out


def read_packed(store: Store, data: DataView, train: Train) -> PackedData:
    """Returns the rows that `pack_data` wrote."""
    keys = layout.packed_rows(train, data)
    return PackedData(
        learnt=PackedRows.from_table(read_table(store, keys.learnt)),
        held_out=PackedRows.from_table(read_table(store, keys.held_out)) if train.validation_share else None,
    )
