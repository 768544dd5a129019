"""What the gap report says: how likely the target finds each source's text, and what rewriting changed.

Pure numpy. Axes: T tokens of one completion. Log-probs, entropies and phi are in nats, all under the target
with the plain prompt.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from drsft.evaluate.estimators import MeanDifference, clustered_mean
from drsft.records import Source

__all__ = ["GapSummary", "Histogram", "ScoredRow", "SourceGap", "effective_sample_share", "summarise"]

FloatArray = NDArray[np.float64]
NUM_BINS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """One completion under the target: `logprobs_T` and `entropy_T` in nats, T >= 1."""

    problem_id: str
    source: Source
    logprobs_T: FloatArray
    entropy_T: FloatArray

    def __post_init__(self) -> None:
        if len(self.logprobs_T) == 0 or len(self.logprobs_T) != len(self.entropy_T):
            raise ValueError(
                f"problem {self.problem_id}: {len(self.logprobs_T)} log-probs and "
                f"{len(self.entropy_T)} entropies; expected equally many, at least one"
            )

    @property
    def mean_logprob(self) -> float:
        return float(np.mean(self.logprobs_T))


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between neighbouring edges, one more edge than counts; the outer bins take what is beyond."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGap:
    """One group of rows. Means over tokens weigh every token equally, `mean_row_logprob` every row."""

    name: str  # own, rewritten, expert (all three: as kept); kept, demonstrations, replaced (see `summarise`)
    num_rows: int
    num_tokens: int
    mean_length: float  # tokens
    mean_logprob: float  # nats per token
    mean_row_logprob: float  # nats per token, averaged within a row first
    perplexity: float  # exp(-mean_logprob)
    mean_entropy: float  # nats
    mean_phi: float  # nats; 0 for the target's own samples at temperature 1
    effective_sample_share: float  # of the DFT weights p_t, in (0, 1]
    row_logprobs: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSummary:
    """`improvement` is None when nothing was replaced."""

    model: str
    groups: tuple[SourceGap, ...]
    improvement: MeanDifference | None = field(default=None)

    def group(self, name: str) -> SourceGap | None:
        return next((group for group in self.groups if group.name == name), None)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "GapSummary":
        fields = json.loads(text)
        improvement = fields["improvement"]
        return cls(
            model=fields["model"],
            groups=tuple(_group_from(group) for group in fields["groups"]),
            improvement=None if improvement is None else MeanDifference(**improvement),
        )


def _group_from(fields: dict[str, object]) -> SourceGap:
    histogram = fields.pop("row_logprobs")
    assert isinstance(histogram, dict)
    edges, counts = tuple(histogram["edges"]), tuple(histogram["counts"])
    return SourceGap(**fields, row_logprobs=Histogram(edges=edges, counts=counts))  # type: ignore[arg-type]


def effective_sample_share(log_weights: FloatArray) -> float:
    """Kish's effective sample size over n: (sum w)^2 / (n sum w^2), in (0, 1]; 1 when all weights agree.

    Weights come as logarithms and are scaled by their largest, so tiny ones do not underflow together.
    """
    weights = np.exp(log_weights - np.max(log_weights))
    return float(np.sum(weights) ** 2 / (len(weights) * np.sum(weights**2)))


def summarise(*, model: str, kept: Sequence[ScoredRow], demonstrations: Sequence[ScoredRow]) -> GapSummary:
    """Groups `kept` rows by source, and compares them with the demonstrations that they replace.

    `kept` holds what will be trained on, `demonstrations` the expert's text of the same problems. Groups are
    own, rewritten and expert (kept rows by source), kept (all of them), demonstrations (all of them) and
    replaced (demonstrations of the problems whose kept row is the target's own text). The improvement is the
    mean over problems of the kept rows' mean log-prob minus the demonstration's.
    """
    own_text = {row.problem_id for row in kept if row.source is not Source.EXPERT}
    replaced = [row for row in demonstrations if row.problem_id in own_text]
    replacing = [row for row in kept if row.source is not Source.EXPERT]
    named = [(source.value, [row for row in kept if row.source is source]) for source in Source]
    named += [("kept", list(kept)), ("demonstrations", list(demonstrations)), ("replaced", replaced)]
    edges = _edges([row.mean_logprob for row in (*kept, *demonstrations)])
    groups = tuple(_source_gap(name, rows, edges) for name, rows in named if rows)
    return GapSummary(model=model, groups=groups, improvement=_improvement(replacing, replaced))


def _edges(values: Sequence[float]) -> FloatArray:
    """Common bins over the central 98 %, so that one freak row does not squeeze all others into a bin."""
    if not values:
        return np.linspace(-1.0, 0.0, NUM_BINS + 1)
    low, high = (float(edge) for edge in np.quantile(values, (0.01, 0.99)))
    return np.linspace(low, high if high > low else low + 1e-3, NUM_BINS + 1)


def _source_gap(name: str, rows: Sequence[ScoredRow], edges: FloatArray) -> SourceGap:
    logprobs = np.concatenate([row.logprobs_T for row in rows])
    entropies = np.concatenate([row.entropy_T for row in rows])
    row_means = np.array([row.mean_logprob for row in rows])
    mean_logprob = float(np.mean(logprobs))
    counts, _ = np.histogram(np.clip(row_means, edges[0], edges[-1]), bins=edges)
    return SourceGap(
        name=name,
        num_rows=len(rows),
        num_tokens=len(logprobs),
        mean_length=len(logprobs) / len(rows),
        mean_logprob=mean_logprob,
        mean_row_logprob=float(np.mean(row_means)),
        perplexity=math.exp(min(-mean_logprob, 700.0)),  # beyond 700 a float64 overflows
        mean_entropy=float(np.mean(entropies)),
        mean_phi=float(np.mean(logprobs + entropies)),
        effective_sample_share=effective_sample_share(logprobs),
        row_logprobs=Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),
    )


def _improvement(replacing: Sequence[ScoredRow], replaced: Sequence[ScoredRow]) -> MeanDifference | None:
    before: dict[str, list[float]] = {}
    for row in replaced:
        before.setdefault(row.problem_id, []).append(row.mean_logprob)
    after: dict[str, list[float]] = {}
    for row in replacing:
        after.setdefault(row.problem_id, []).append(row.mean_logprob)
    problems = sorted(before.keys() & after.keys())
    if not problems:
        return None
    differences = np.array([np.mean(after[problem]) - np.mean(before[problem]) for problem in problems])
    return clustered_mean(differences)
