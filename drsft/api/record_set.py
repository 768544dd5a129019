"""`drsft.load_records`: a run's records as objects, as a pandas frame or as a `datasets.Dataset`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import pyarrow as pa

from drsft.errors import SetupError
from drsft.records import Record
from drsft.run.run import find_run
from drsft.run.tables import records_from_table

if TYPE_CHECKING:
    import datasets
    import pandas

__all__ = ["RecordSet", "load_records"]


def load_records(run: str, overrides: Sequence[str] = ()) -> "RecordSet":
    """Returns the records that a run has committed so far, shard after shard.

    `run` is a run's folder, its s3:// URL, or the YAML configuration that describes it; `overrides` change a
    configuration, as in "name=second". All records are held in memory. Raises InputError where there is no
    run or nothing is rewritten yet, and StorageError for a store that cannot be read.

    >>> records = drsft.load_records(run)
    >>> frame = records.to_pandas()
    >>> frame.groupby("source").size().to_dict()
    {'expert': 2, 'own': 8, 'rewritten': 2}
    >>> records[0].problem.question == frame.question[0]
    True
    """
    tables = [table for _, table in find_run(run, overrides).record_tables()]
    return RecordSet(table=pa.concat_tables(tables, promote_options="default"))


@dataclass(frozen=True, eq=False)
class RecordSet(Sequence[Record]):
    """Records in the order of the run's shards; `table` has the columns of docs/records.md."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self._records[index]

    @cached_property
    def _records(self) -> list[Record]:
        return records_from_table(self.table)

    def to_pandas(self) -> "pandas.DataFrame":
        """Returns a frame with a row for each record; lists and structs are numpy arrays and dicts."""
        frame: pandas.DataFrame = self.table.to_pandas()
        return frame

    def to_datasets(self) -> "datasets.Dataset":
        """Returns a dataset of the hub's library. Raises SetupError where `datasets` is not installed."""
        try:
            from datasets import Dataset
        except ModuleNotFoundError as error:
            raise SetupError("to_datasets() needs the package datasets: pip install 'drsft[hub]'") from error
        return Dataset(self.table)
