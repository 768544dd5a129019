"""Writes the exports of a run: one Parquet file for each, filled shard after shard."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from drsft.config import RunConfig
from drsft.records import Record
from drsft.rewrite.export import MESSAGES_SCHEMA, PAIRS_SCHEMA, messages_table, pairs_table
from drsft.run import layout
from drsft.run.run import Run
from drsft.storage import Store

__all__ = ["ExportKind", "Exported", "export_records"]

ExportKind = Literal["messages", "pairs"]

_ROWS_OF_A_GROUP = 10_000  # shards are small, and readers want row groups that are not


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """`counts` says what the rows are, and why there are not more."""

    url: str
    num_rows: int
    counts: Counter[str]


def export_records(kind: ExportKind, run: Run, out: Store) -> Exported:
    """Reads the records of a run and writes `<out>/<kind>.parquet`; equal records give equal bytes.

    In memory stand the compressed file and about 10,000 rows. Raises InputError when nothing is rewritten.
    """
    schema = MESSAGES_SCHEMA if kind == "messages" else PAIRS_SCHEMA
    counts: Counter[str] = Counter()
    waiting: list[pa.Table] = []
    num_rows = num_waiting = 0
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for _, records in run.read_records():
            table, of_shard = _convert(kind, records, run.config)
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


def _convert(kind: ExportKind, records: list[Record], config: RunConfig) -> tuple[pa.Table, Counter[str]]:
    match kind:
        case "messages":
            return messages_table(records, config.target.prompts)
        case "pairs":
            return pairs_table(records, config.target.prompts, run_seed=config.seed)
