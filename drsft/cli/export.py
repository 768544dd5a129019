"""Writes the exports of a run: one Parquet file for each, filled shard after shard."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from drsft.config import RunConfig
from drsft.policy.turn.turn import Thought, Turn
from drsft.records import Record
from drsft.rewrite.export import messages_schema, messages_table, pairs_schema, pairs_table
from drsft.run import layout
from drsft.run.run import Run
from drsft.storage import Store
from drsft.storage.typed import read_stored

__all__ = ["ExportKind", "Exported", "export_records"]

ExportKind = Literal["messages", "pairs"]

_ROWS_OF_A_GROUP = 10_000  # shards are small, and readers need larger row groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The result of an export.

    `counts` has the number of rows of each kind, and of records without a row, by the reason.
    """

    url: str
    num_rows: int
    counts: Counter[str]


def export_records(kind: ExportKind, run: Run, out: Store) -> Exported:
    """Writes `<out>/<kind>.parquet` from the records of a run and returns where it is and its counts.

    Equal records give equal bytes. It holds the compressed file and about 10,000 rows in memory. Raises
    InputError when nothing is rewritten.
    """
    thought = _thought(run)
    marks_thoughts = thought is not None or _holds_thoughts(run)
    schema_of = messages_schema if kind == "messages" else pairs_schema
    schema = schema_of(marks_thoughts=marks_thoughts)
    counts: Counter[str] = Counter()
    waiting: list[pa.Table] = []
    num_rows = num_waiting = 0
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for _, records in run.read_records():
            table, of_shard = _convert(
                kind, records, run.config, marks_thoughts=marks_thoughts, thought=thought
            )
            counts += of_shard
            num_rows += table.num_rows
            num_waiting += table.num_rows
            waiting.append(table)
            if num_waiting >= _ROWS_OF_A_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting, num_waiting = [], 0
        writer.write_table(pa.concat_tables(waiting) if waiting else schema.empty_table())
    out.put(layout.export(kind), bytes(sink.getvalue()))
    return Exported(url=f"{out.url}/{layout.export(kind)}", num_rows=num_rows, counts=counts)


def _thought(run: Run) -> Thought | None:
    """Returns how the target's template marks thoughts, or None."""
    return read_stored(run.store, layout.TURN, Turn).thought if run.store.exists(layout.TURN) else None


def _holds_thoughts(run: Run) -> bool:
    """Returns whether records have thoughts although the run, begun by an older version, stores no turn."""
    if run.store.exists(layout.TURN):
        return False
    return any("thought" in run.records.table(shard).schema.names for shard in run.records.done())


def _convert(
    kind: ExportKind,
    records: list[Record],
    config: RunConfig,
    *,
    marks_thoughts: bool,
    thought: Thought | None,
) -> tuple[pa.Table, Counter[str]]:
    prompts = config.target.prompts
    match kind:
        case "messages":
            return messages_table(records, prompts, marks_thoughts=marks_thoughts, thought=thought)
        case "pairs":
            return pairs_table(
                records, prompts, run_seed=config.seed, marks_thoughts=marks_thoughts, thought=thought
            )
