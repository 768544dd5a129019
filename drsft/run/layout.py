"""Defines the key of every object in a run's folder; no other module spells such keys out.

    run.json                             what the run is: written by its first start
    config.json                          the configuration of its last start
    turn.json                            the assistant's turn and the date, as of its first start
    lease/000003.json|.beat|.released    which driver works on it (drsft/run/lease.py)
    history/000003-train.json            when each stage ran, and how long it took (drsft/run/history.py)
    problems/                            plan.json, quarantine.jsonl, shards/00000.parquet
    rewrite/                             the records: a shard folder
    survey/                              in a later round, which records are carried over: a shard folder
    gap/                                 report.json; scores-<columns>: a shard folder
    gap/<data>-<digest>/                 the same of other texts; index.html; texts: a shard folder
    train/packed-<view>-<settings>       .parquet, -held-out.parquet, .filter.json, and .json as its commit
    train/packed-<view>-<settings>/      start-logprobs.npy
    train/<arm>-<settings>/seed-<seed>/  metrics.jsonl, probabilities.json, checkpoints/, tensorboard/,
                                         adapter/, export/, and done.json as its commit
    benchmarks/<name>-<settings>/        as problems/; contamination-<settings>.json
    evaluate/<model>/<benchmark>-<settings>/   a shard folder; verdicts/<number>-<version>: shard folders
    report/                              index.html, summary.json, against-<run>.html
    export/                              messages.parquet, pairs.parquet
    round-<number>-<settings>/           a later round: a run of its own

A shard folder holds commits/<shard>.json and data/<shard>-<hash of its bytes>.parquet (drsft/run/shards.py).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from drsft.config import Arm, Benchmark, DataView, Evaluate, Train

__all__ = [
    "BASE",
    "CONFIG",
    "EVALUATIONS",
    "EXPORT",
    "GAP",
    "HISTORY",
    "LEASE",
    "MANIFEST",
    "PROBLEMS",
    "RECORDS",
    "REPORT",
    "SNAPSHOT",
    "START_LOGPROBS",
    "SURVEY",
    "TRAINING",
    "TRAININGS",
    "TURN",
    "Checkpoints",
    "GapFolder",
    "PackedRowsFolder",
    "ProblemsFolder",
    "ReportFolder",
    "ShardFolder",
    "TrainingFolder",
    "all_verdicts",
    "benchmark",
    "contamination",
    "export",
    "gap_of",
    "history",
    "lease",
    "packed_rows",
    "round_prefix",
    "samples",
    "training",
    "verdicts",
]

MANIFEST = "run.json"
CONFIG = "config.json"
TURN = "turn.json"
LEASE = "lease"
HISTORY = "history"
EXPORT = "export"
TRAININGS = "train"
BASE = "base"  # the name of the untrained target among the evaluated models
START_LOGPROBS = "start-logprobs.npy"  # below a PackedRowsFolder's prefix: of its rows under the start
SNAPSHOT = "snapshot-logprobs.npy"  # beside a checkpoint: of coming rows under an earlier policy
EVALUATIONS = "evaluate"


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """The shards of one stage. A shard is done when its commit exists."""

    prefix: str

    @property
    def commits(self) -> str:
        return f"{self.prefix}/commits"

    def commit(self, shard: str) -> str:
        return f"{self.commits}/{shard}.json"

    def data(self, shard: str, content: bytes) -> str:
        return f"{self.prefix}/data/{shard}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"

    @staticmethod
    def shard_of(commit_key: str) -> str:
        return commit_key.rsplit("/", 1)[1].removesuffix(".json")

    def named(self, data_key: str) -> str:
        """Returns the key of a data object in the store of this folder.

        `data_key` is the key in the commit, which is relative to the folder of the commit's round.
        """
        return f"{self.prefix}/data/{data_key.rpartition('/')[2]}"

    def is_content(self, data_key: str, content: bytes) -> bool:
        """Returns whether the hash in a data object's key is the hash of this content."""
        return data_key.endswith(self.data("", content).rpartition("/")[2])

    @staticmethod
    def committed(key: str) -> "tuple[ShardFolder, str] | None":
        """Returns the shard folder and the shard's name if `key` is that of a commit object; else None."""
        found = re.fullmatch(r"(?P<prefix>.+)/commits/(?P<shard>[^/]+)\.json", key)
        return (ShardFolder(found["prefix"]), found["shard"]) if found else None

    @staticmethod
    def owner_of(key: str) -> "tuple[ShardFolder, str] | None":
        """Returns the shard folder and the shard's name if `key` is that of a data object; else None."""
        found = re.fullmatch(r"(?P<prefix>.+)/data/(?P<shard>[^/]+)-[0-9a-f]{16}\.parquet", key)
        return (ShardFolder(found["prefix"]), found["shard"]) if found else None


@dataclass(frozen=True, slots=True)
class ProblemsFolder:
    """The keys of problems that were read, checked and cut into shards."""

    prefix: str

    @property
    def plan(self) -> str:
        return f"{self.prefix}/plan.json"

    @property
    def quarantine(self) -> str:
        return f"{self.prefix}/quarantine.jsonl"

    def shard(self, name: str) -> str:
        return f"{self.prefix}/shards/{name}.parquet"


@dataclass(frozen=True, slots=True)
class GapFolder:
    """The keys of the gap report of one set of texts, scored by one model."""

    prefix: str

    @property
    def report(self) -> str:
        return f"{self.prefix}/report.json"

    @property
    def page(self) -> str:
        return f"{self.prefix}/index.html"

    @property
    def texts(self) -> str:
        """The shard folder of the scored texts; used only for texts that are not from the run's records."""
        return f"{self.prefix}/texts"

    def scores(self, columns: Sequence[str]) -> str:
        """Returns the shard folder of the scores. Its name contains a hash of the columns.

        So scores that another version stored with other columns are not read but computed again.
        """
        digest = hashlib.blake2b(",".join(columns).encode(), digest_size=4).hexdigest()
        return f"{self.prefix}/scores-{digest}"


@dataclass(frozen=True, slots=True)
class PackedRowsFolder:
    """The keys of the packed rows of one data view."""

    prefix: str

    @property
    def commit(self) -> str:
        """The key of the file with the counts. It is written last, so packed rows without it are
        incomplete.
        """
        return f"{self.prefix}.json"

    @property
    def learnt(self) -> str:
        return f"{self.prefix}.parquet"

    @property
    def held_out(self) -> str:
        return f"{self.prefix}-held-out.parquet"

    @property
    def filter_counts(self) -> str:
        return f"{self.prefix}.filter.json"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The keys of one training's checkpoints."""

    prefix: str

    def step(self, step: int) -> str:
        return f"{self.prefix}/step-{step:06d}"

    def commit(self, step: int) -> str:
        """Returns the key of the file that marks a checkpoint as complete. It is written last, so a
        checkpoint without it is not valid.
        """
        return f"{self.step(step)}/commit.json"

    def beside(self, step: int, name: str) -> str:
        """Returns the key of an additional file in a checkpoint's folder, such as SNAPSHOT."""
        return f"{self.step(step)}/{name}"

    @staticmethod
    def is_commit(key: str) -> bool:
        return key.endswith("/commit.json")


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """The keys of one training: one arm, trained with one seed.

    The constant TRAINING has an empty `prefix`: its keys are relative to the training's own folder.
    """

    prefix: str

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def model_name(self) -> str:
        """The trained model's name among the evaluated ones, as in "dr+dft-1a2b3c4d/seed-0"."""
        return self.prefix.removeprefix(f"{TRAININGS}/")

    @property
    def done(self) -> str:
        """The key of the file that marks the training as finished; it is written last."""
        return self._key("done.json")

    @property
    def metrics(self) -> str:
        return self._key("metrics.jsonl")

    @property
    def probabilities(self) -> str:
        return self._key("probabilities.json")

    @property
    def export(self) -> str:
        return self._key("export")

    @property
    def adapter(self) -> str:
        return self._key("adapter")

    @property
    def tensorboard(self) -> str:
        return self._key("tensorboard")

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self._key("checkpoints"))


@dataclass(frozen=True, slots=True)
class ReportFolder:
    prefix: str

    @property
    def page(self) -> str:
        return f"{self.prefix}/index.html"

    @property
    def summary(self) -> str:
        return f"{self.prefix}/summary.json"

    def against(self, run_id: str) -> str:
        return f"{self.prefix}/against-{run_id}.html"

    def holds(self, key: str) -> bool:
        return key.startswith(f"{self.prefix}/")


PROBLEMS = ProblemsFolder("problems")
RECORDS = "rewrite"  # a shard folder, as SURVEY is
SURVEY = "survey"
GAP = GapFolder("gap")  # of the run's own records under its target
TRAINING = TrainingFolder("")
REPORT = ReportFolder("report")


def lease(term: int, kind: str) -> str:
    """Returns the key of an object of a lease's term; `kind` is "json" (the claim), "beat" or "released"."""
    return f"{LEASE}/{term:06d}.{kind}"


def history(term: int, stage: str) -> str:
    return f"{HISTORY}/{term:06d}-{stage}.json"


def gap_of(data: str, digest: str) -> GapFolder:
    """Returns the folder for scores of other texts than the run's, or under another model.

    `digest` is a hash over the texts and the model.
    """
    return GapFolder(f"{GAP.prefix}/{data}-{digest}")


def packed_rows(train: Train, data_view: DataView) -> PackedRowsFolder:
    """Returns the folder of the packed rows, shared by all trainings with the same packing settings."""
    return PackedRowsFolder(f"{TRAININGS}/packed-{data_view}-{train.packing_fingerprint}")


def training(train: Train, arm: Arm, seed: int) -> TrainingFolder:
    """Returns the folder of a training. Its name contains the arm, the seed, and a hash of the settings that
    the training depends on.
    """
    return TrainingFolder(f"{TRAININGS}/{arm.name}-{train.arm_fingerprint(arm)}/seed-{seed}")


def benchmark(of: Benchmark) -> ProblemsFolder:
    return ProblemsFolder(f"benchmarks/{of.name}-{of.problems_fingerprint}")


def contamination(evaluate: Evaluate, of: Benchmark) -> str:
    """Returns the key of the measured overlap of the training problems with a benchmark."""
    return f"{benchmark(of).prefix}/contamination-{evaluate.contamination_fingerprint}.json"


def samples(evaluate: Evaluate, model: str, of: Benchmark) -> str:
    """Returns the shard folder of a model's samples on a benchmark. Its name contains the benchmark, and a
    hash of the settings that the samples depend on.
    """
    return f"{EVALUATIONS}/{model}/{of.name}-{evaluate.samples_fingerprint(of)}"


def all_verdicts(samples_prefix: str) -> str:
    """Returns the folder of all verdicts on the samples at `samples_prefix` by `drsft evaluate --rejudge`."""
    return f"{samples_prefix}/verdicts"


def verdicts(samples_prefix: str, number: int, version: str) -> str:
    """Returns the shard folder of the verdicts that one rejudging gave the samples at `samples_prefix`.

    `number` counts the rejudgings; `version` is the verifier's.
    """
    return f"{all_verdicts(samples_prefix)}/{number}-{version}"


def export(kind: str) -> str:
    """Returns the key of an export, below EXPORT or in the folder that the user names."""
    return f"{kind}.parquet"


def round_prefix(number: int, made_by: str) -> str:
    """Returns a later round's folder; `made_by` is a fingerprint of everything that the round depends on."""
    return f"round-{number}-{made_by}"
