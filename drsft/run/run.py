"""Reads a run's folder: every reader begins here."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from drsft.config import Benchmark, DataView, Resources, RunConfig
from drsft.config.configfile import load_config
from drsft.errors import InputError
from drsft.records import QuarantinedRow, Record
from drsft.run import layout
from drsft.run.history import StageTime, read_history
from drsft.run.models import EvaluatedModel, FinishedTraining, ProbabilityCounts, evaluated_models
from drsft.run.plan import Plan, read_plan, read_quarantine
from drsft.run.shards import Commit, ShardSet
from drsft.run.summary import ShardSummary, WorkSummary
from drsft.run.tables import records_from_table
from drsft.storage import Store, open_store
from drsft.storage.typed import read_stored

__all__ = ["Manifest", "Run", "find_run", "open_run", "run_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The description of a run, written when it was first started."""

    created: str  # ISO 8601, with its zone
    target_fingerprint: str | None = None  # None in the first versions


class Run:
    """Reads one run. A later round is a run inside its run, with a folder of the same layout.

    Only the configuration is kept in memory, so every call reads the current state, also of a run in
    progress. Readers return None or nothing for data that does not exist yet, unless they say otherwise;
    damaged data raises StorageError. drsft/run/layout.py defines the keys, for writers too.
    """

    def __init__(self, store: Store, config: RunConfig | None = None) -> None:
        """Without `config` the configuration of the run's last start is read."""
        self.store = store
        self._config = config

    @property
    def url(self) -> str:
        return self.store.url

    @cached_property
    def config(self) -> RunConfig:
        return self._config or _stored_config(self.store)

    @property
    def resources(self) -> Resources:
        """The resources; a setting that is null has the value that the run's last start chose for it."""
        own = self.config.resources
        if self._config is None or not self.store.exists(layout.CONFIG):
            return own
        return own.with_defaults_from(_stored_config(self.store).resources)

    @property
    def is_started(self) -> bool:
        return self.store.exists(layout.MANIFEST)

    def manifest(self) -> Manifest:
        """Returns the manifest. Raises StorageError for a run that was never started."""
        return read_stored(self.store, layout.MANIFEST, Manifest)

    def history(self) -> list[StageTime]:
        return read_history(self.store)

    def num_bytes(self, prefix: str) -> int:
        """Returns the size of all objects below a folder of the run."""
        num_bytes = 0
        for key in self.store.keys(prefix):
            with self.store.open(key) as file:
                num_bytes += file.seek(0, io.SEEK_END)
        return num_bytes

    # Problems

    def plan(self) -> Plan | None:
        return read_plan(self.store)

    def quarantine(self) -> Iterator[QuarantinedRow]:
        return read_quarantine(self.store)

    def benchmark_plan(self, benchmark: Benchmark) -> Plan | None:
        return read_plan(self.store, layout.benchmark(benchmark))

    # Records

    @property
    def records(self) -> ShardSet:
        return ShardSet(self.store, layout.RECORDS)

    def check_has_records(self) -> None:
        """Raises InputError if nothing is rewritten yet."""
        if not self.records.done():
            raise InputError(f"{self.url} has no records yet; rewrite first: drsft rewrite CONFIG")

    def rewritten(self) -> dict[str, Commit]:
        """Returns the commits of the shards rewritten so far, by the shards' names.

        Raises InputError if there are none.
        """
        self.check_has_records()
        return dict(sorted(self.records.commits().items()))

    def record_tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Yields the name and the records of each shard; one shard is in memory at a time."""
        for shard, commit in self.rewritten().items():
            yield shard, self.records.table_of(commit)

    def read_records(self) -> Iterator[tuple[str, list[Record]]]:
        for shard, table in self.record_tables():
            yield shard, records_from_table(table)

    def each_record(self) -> Iterator[tuple[str, Record]]:
        """Yields every record with the name of its shard, in order of shard and problem id."""
        for shard, records in self.read_records():
            for record in records:
                yield shard, record

    def summaries(self) -> list[ShardSummary]:
        """Returns the summaries in the commits of the rewritten shards, in order; [] if there are none."""
        return self.records.summaries(ShardSummary.from_json)

    @property
    def survey(self) -> ShardSet:
        """The shards of a later round's survey: which records of the previous round it takes over unchanged
        (drsft/run/rounds.py).
        """
        return ShardSet(self.store, layout.SURVEY)

    # Trainings

    def data_views(self) -> list[DataView]:
        """Returns the data views that the configured arms learn from, each once."""
        return sorted({arm.data for arm in self.config.train.arms})

    def models(self) -> list[EvaluatedModel]:
        """Returns all models in the configuration, trained or not."""
        return evaluated_models(self.config)

    def trainings(self) -> list[tuple[EvaluatedModel, layout.TrainingFolder]]:
        """Returns the models that are trained, each with its folder."""
        return [(model, model.folder) for model in self.models() if model.folder is not None]

    def finished_training(self, folder: layout.TrainingFolder) -> FinishedTraining | None:
        if not self.store.exists(folder.done):
            return None
        return read_stored(self.store, folder.done, FinishedTraining)

    def finished_trainings(self) -> list[FinishedTraining]:
        found = (self.finished_training(folder) for _, folder in self.trainings())
        return [one for one in found if one is not None]

    def loss_curve(self, folder: layout.TrainingFolder) -> tuple[tuple[int, float], ...]:
        """Returns (step, cross-entropy in nats per token) of each step logged so far; () if there is none."""
        if not self.store.exists(folder.metrics):
            return ()
        rows = map(json.loads, self.store.read(folder.metrics).decode().splitlines())
        return tuple((int(row["step"]), float(row["ce"])) for row in rows)

    def probabilities(self, folder: layout.TrainingFolder) -> ProbabilityCounts | None:
        if not self.store.exists(folder.probabilities):
            return None
        return read_stored(self.store, folder.probabilities, ProbabilityCounts)

    # Evaluations

    def samples(self, model: EvaluatedModel, benchmark: Benchmark) -> ShardSet:
        return ShardSet(self.store, layout.samples(self.config.evaluate, model.name, benchmark))

    def evaluation_work(self, model: EvaluatedModel) -> list[WorkSummary]:
        """Returns the summaries of the work on the model's committed shards, over all benchmarks."""
        return [
            summary
            for benchmark in self.config.evaluate.benchmarks
            for summary in self.samples(model, benchmark).summaries(WorkSummary.from_json)
        ]


def _stored_config(store: Store) -> RunConfig:
    """Returns the stored configuration.

    Versions that stored no `rewrite.grounding` accepted every right solution, so it is read as null.
    """
    rewrite = read_stored(store, layout.CONFIG, dict[str, Any]).get("rewrite", {})
    given = {"grounding": None, **rewrite} if isinstance(rewrite, dict) else rewrite
    return read_stored(store, layout.CONFIG, RunConfig, rewrite=given)


def run_of(config: RunConfig) -> Run:
    """Returns the run that a configuration describes, whether it was started or not."""
    return Run(open_store(config.storage).within(config.run_id), config)


def open_run(config: RunConfig) -> Run:
    """Returns the run of a configuration. Raises InputError if it was never started."""
    run = run_of(config)
    if not run.is_started:
        raise InputError(
            f"there is no run {config.run_id} in {config.storage}; start it with drsft rewrite or drsft run"
        )
    return run


def find_run(where: str, overrides: Sequence[str] = ()) -> Run:
    """Returns the run at a folder or s3:// URL, or the run that a YAML configuration describes.

    `overrides` change the configuration. Raises InputError if there are overrides but no configuration, or if
    the run was never started.
    """
    if where.endswith((".yaml", ".yml")):
        return open_run(load_config(Path(where), overrides))
    if overrides:
        raise InputError(f"{overrides[0]!r}: overrides go with a configuration, and {where!r} is a run")
    run = Run(open_store(where))
    if not run.is_started:
        raise InputError(f"{where}: no run here; give a run's folder, its s3:// URL or its configuration")
    return run
