"""Defines the summary in a shard's commit, which lets reports read the small commit objects only.

The JSON of commits is written and read only here. Commits of every version can be read: a missing field gets
the value that was true for that version. The JSON holds phases, outcomes and sources as their values, and
verdicts as "phase/outcome/reason".
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from drsft.errors import InputError
from drsft.records import Outcome, Phase, QuarantinedRow, Rejection, Source

__all__ = ["JudgedAs", "ShardCounts", "ShardSummary", "Work", "WorkSummary", "span_s"]


class JudgedAs(NamedTuple):
    """The key by which samples are counted: the phase that sampled them and the verdict on them."""

    phase: Phase
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """When a worker began and ended a shard, in seconds since 1970; shards of one worker may overlap."""

    worker: str | None  # host/process; None in commits of the first versions
    started_at: float
    ended_at: float

    @classmethod
    def since(cls, started_at: float) -> "Work":
        """Returns the Work of a shard that this process began at `started_at` and ends now."""
        worker = f"{socket.gethostname()}/{os.getpid()}"
        return cls(worker=worker, started_at=started_at, ended_at=time.time())

    @classmethod
    def _from_json(cls, stored: Mapping[str, Any]) -> "Work | None":
        """Returns the work, or None for commits of the first versions."""
        if not {"started_at", "ended_at"} <= stored.keys():
            return None
        return _WORK.validate_python(
            {
                "worker": stored.get("actor"),
                "started_at": stored["started_at"],
                "ended_at": stored["ended_at"],
            }
        )

    def _to_json(self) -> dict[str, Any]:
        return {"actor": self.worker, "started_at": self.started_at, "ended_at": self.ended_at}


def span_s(work: Iterable[Work | None]) -> float:
    """Returns the seconds from the earliest start to the latest end of the given work; None is ignored.

    Raises InputError if all are None, or if there is no work.
    """
    told = [one for one in work if one is not None]
    if not told:
        raise InputError(
            "no committed shard of the run says when it was worked on, so its speed cannot be measured; "
            "rewrite under another name"
        )
    return max(one.ended_at for one in told) - min(one.started_at for one in told)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCounts:
    """The counts of a shard's rewriting; `total` adds shards up.

    For each phase: the `problems` it sampled for, its `samples` and their `tokens`, the problems that it
    `solved` (one of its samples is the kept one), and those with an `accepted` sample (one that could have
    been kept, even if another phase's sample was).
    """

    sources: Counter[Source] = field(default_factory=Counter)  # of the problems that were rewritten
    kept: Counter[Source] = field(default_factory=Counter)  # of these and of the carried-over records
    problems: Counter[Phase] = field(default_factory=Counter)
    samples: Counter[Phase] = field(default_factory=Counter)
    tokens: Counter[Phase] = field(default_factory=Counter)
    thought_tokens: Counter[Phase] = field(default_factory=Counter)  # of these, before the answers
    solved: Counter[Phase] = field(default_factory=Counter)
    accepted: Counter[Phase] = field(default_factory=Counter)
    verdicts: Counter[JudgedAs] = field(default_factory=Counter)
    rejections: Counter[Rejection] = field(default_factory=Counter)  # of right samples
    num_stopped_tokens: int = 0  # of samples that were stopped; these are in no record
    num_steps_read: int = 0  # guided samples, accepted but for these, whose equations could be read
    num_steps_failed: int = 0  # of these, with an equation that does not hold
    num_contradicting: int = 0  # demonstrations whose own answer is not the reference
    num_pairs: int = 0  # of contexts that Hinted Decoding kept in step
    num_pairs_redone: int = 0  # times that one fell out of step and resumed from its last confirmed token
    num_pairs_apart: int = 0  # ended up decoded separately
    num_carried_over: int = 0  # records that are carried over unchanged
    num_tokens_saved: int = 0  # that these had cost

    @classmethod
    def total(cls, counts: Iterable["ShardCounts"]) -> "ShardCounts":
        """Returns the sums over shards."""
        all_counts = list(counts)
        sums: dict[str, Any] = {}
        for name in (one.name for one in fields(cls)):
            values = [getattr(one, name) for one in all_counts]
            is_counter = isinstance(getattr(cls(), name), Counter)
            sums[name] = sum(values, Counter()) if is_counter else sum(values)
        return cls(**sums)

    @property
    def num_target_tokens(self) -> int:
        """All tokens that the target sampled: kept, rejected and stopped. A teacher's tokens do not count."""
        return self.tokens.total() - self.tokens[Phase.TEACHER] + self.num_stopped_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """The content of the commit of a shard of records."""

    counts: ShardCounts
    work: Work | None = None  # None in commits of the first versions
    cpu_s: float | None = None  # the worker's processor time until then
    peak_rss_mib: float | None = None  # and its memory
    provenance: Mapping[str, str] = field(default_factory=dict)  # versions and model that made it
    set_aside: tuple[QuarantinedRow, ...] = ()  # because they killed the engine; their records are DROPPED

    def to_json(self) -> dict[str, Any]:
        counts = self.counts
        pairs = {
            "num_pairs": counts.num_pairs,
            "num_redone": counts.num_pairs_redone,
            "num_apart": counts.num_pairs_apart,
        }
        return {
            "sources": dict(counts.sources),
            "solved": dict(counts.solved),
            "accepted": dict(counts.accepted),
            "refusals": {str(one): count for one, count in counts.rejections.items()},
            "checks": {
                "steps_read": counts.num_steps_read,
                "steps_failed": counts.num_steps_failed,
                "contradicting": counts.num_contradicting,
            },
            "samples": dict(counts.samples),
            "problems": dict(counts.problems),
            "tokens": dict(counts.tokens),
            **({"thought_tokens": dict(counts.thought_tokens)} if counts.thought_tokens else {}),
            "verdicts": {"/".join(key): count for key, count in counts.verdicts.items()},
            **(self.work._to_json() if self.work else {}),
            "cpu_s": self.cpu_s,
            "peak_rss_mib": self.peak_rss_mib,
            "provenance": dict(self.provenance),
            "stopped_tokens": counts.num_stopped_tokens,
            "pairs": {name: count for name, count in pairs.items() if count},
            "kept": dict(counts.kept),
            "carried": {"problems": counts.num_carried_over, "tokens": counts.num_tokens_saved},
            **({"set_aside": [asdict(row) for row in self.set_aside]} if self.set_aside else {}),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ShardSummary":
        """Reads a summary. Raises ValueError for JSON that no version has written."""
        return cls(
            counts=_counts_from_json(_COUNTS.validate_python(stored)),
            work=Work._from_json(stored),
            cpu_s=stored.get("cpu_s"),
            peak_rss_mib=stored.get("peak_rss_mib"),
            provenance=_PROVENANCE.validate_python(stored.get("provenance", {})),
            set_aside=_ROWS.validate_python(stored.get("set_aside", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSummary:
    """The content of the commit of a shard of the gap report or of an evaluation."""

    work: Work | None = None  # None in commits of the first versions, as the others
    num_units: int | None = None  # records or texts that were scored, samples that were drawn
    num_tokens: int | None = None
    verifier: str | None = None  # the verifier's version, where samples were judged
    provenance: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        told = {
            "verifier": self.verifier,
            "provenance": dict(self.provenance) or None,
            **(self.work._to_json() if self.work else {}),
            "num_units": self.num_units,
            "num_tokens": self.num_tokens,
        }
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "WorkSummary":
        """Reads a summary. Raises ValueError for JSON that no version has written."""
        return _WORK_SUMMARY.validate_python({**stored, "work": Work._from_json(stored)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checks:
    steps_read: int = 0
    steps_failed: int = 0
    contradicting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    num_pairs: int = 0
    num_redone: int = 0
    num_apart: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried:
    problems: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredCounts:
    """The counts, by their names in the JSON."""

    sources: Counter[Source] = field(default_factory=Counter)
    kept: Counter[Source] | None = None  # versions without rounds kept everything that they rewrote
    problems: Counter[Phase] = field(default_factory=Counter)
    samples: Counter[Phase] = field(default_factory=Counter)
    tokens: Counter[Phase] = field(default_factory=Counter)
    thought_tokens: Counter[Phase] = field(default_factory=Counter)  # absent where nothing was thought
    solved: Counter[Phase] = field(default_factory=Counter)
    accepted: Counter[Phase] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    stopped_tokens: int = 0
    checks: _Checks = _Checks()
    pairs: _Pairs = _Pairs()
    carried: _Carried = _Carried()


def _counts_from_json(stored: _StoredCounts) -> ShardCounts:
    return ShardCounts(
        sources=stored.sources,
        kept=stored.sources if stored.kept is None else stored.kept,
        problems=stored.problems,
        samples=stored.samples,
        tokens=stored.tokens,
        thought_tokens=stored.thought_tokens,
        solved=stored.solved,
        accepted=stored.accepted,
        verdicts=Counter({_judged_as(key): count for key, count in stored.verdicts.items()}),
        rejections=Counter({Rejection.from_text(text): n for text, n in stored.refusals.items()}),
        num_stopped_tokens=stored.stopped_tokens,
        num_steps_read=stored.checks.steps_read,
        num_steps_failed=stored.checks.steps_failed,
        num_contradicting=stored.checks.contradicting,
        num_pairs=stored.pairs.num_pairs,
        num_pairs_redone=stored.pairs.num_redone,
        num_pairs_apart=stored.pairs.num_apart,
        num_carried_over=stored.carried.problems,
        num_tokens_saved=stored.carried.tokens,
    )


def _judged_as(key: str) -> JudgedAs:
    """Returns the phase and the verdict that a key of the JSON names; its reason may contain slashes.

    Raises ValueError for any other text.
    """
    phase, outcome, reason = key.split("/", 2)
    return JudgedAs(Phase(phase), Outcome(outcome), reason)


_COUNTS = TypeAdapter(_StoredCounts)
_ROWS = TypeAdapter(tuple[QuarantinedRow, ...])
_PROVENANCE = TypeAdapter(dict[str, str])
_WORK = TypeAdapter(Work)
_WORK_SUMMARY = TypeAdapter(WorkSummary)
