"""Computes the numbers of the gap report: how likely each group of texts is, and what rewriting changed.

Pure numpy over the row columns of drsft/gap/scored_texts.py. Log-probs, entropies and phi are in nats, all
under one model with the plain prompt. Means over tokens weigh every token equally, means over rows every row.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drsft.evaluate.estimators import MeanDifference, clustered_mean
from drsft.gap.scored_texts import COMPARED, PART_COLUMNS, PHI_THRESHOLDS, Role
from drsft.records import Source

__all__ = ["GapSummary", "Histogram", "PartGap", "SourceGap", "WeightSpread", "summarise"]

FloatArray = NDArray[np.float64]
NUM_BINS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between neighbouring edges, one more edge than counts.

    The outer bins also count all values beyond the edges.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSpread:
    """How an objective's weights are spread over the tokens of a group.

    The effective sample is Kish's, (sum w)^2 / (n sum w^2): 1 if all weights are equal, near 0 if few tokens
    have nearly all the weight.
    """

    objective: str
    mean: float
    variance: float
    effective_sample_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartGap:
    """The numbers of all thoughts of a group's texts, or of all answers (every token outside a thought)."""

    name: str  # "thought" or "answer"
    num_tokens: int
    mean_logprob: float  # nats per token
    mean_phi: float  # nats


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGap:
    """The numbers of one group of texts.

    `low_phi` and `high_phi` bound `mean_phi` at 95 %, clustered by row id.
    """

    name: str  # see `summarise`
    num_rows: int
    num_tokens: int
    mean_length: float  # tokens
    mean_logprob: float  # nats per token
    mean_row_logprob: float  # nats per token, averaged within a row first
    perplexity: float  # exp(-mean_logprob)
    mean_entropy: float  # nats
    mean_phi: float  # nats; 0 for the model's own samples at temperature 1
    mean_row_phi: float  # nats, averaged within a row first
    low_phi: float | None  # None for a single problem
    high_phi: float | None
    phi_below: tuple[float, ...]  # shares of tokens below each of PHI_THRESHOLDS
    weights: tuple[WeightSpread, ...]  # of each objective in COMPARED
    row_logprobs: Histogram
    row_phis: Histogram
    parts: tuple[PartGap, ...] = ()  # thought and answer, where a text has a thought

    def weight(self, objective: str) -> WeightSpread | None:
        return next((one for one in self.weights if one.objective == objective), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSummary:
    """The numbers of all groups of texts; `improvement` is None if rewriting replaced no demonstration."""

    model: str
    groups: tuple[SourceGap, ...]
    improvement: MeanDifference | None = None

    def group(self, name: str) -> SourceGap | None:
        return next((group for group in self.groups if group.name == name), None)


Columns = dict[str, NDArray[Any]]
RESERVED = ("kept", "demonstrations", "replaced", "sampled")


def summarise(*, model: str, rows: pa.Table) -> GapSummary:
    """Returns the summary of the gap for each group of `rows`, and the improvement that rewriting brings.

    `rows` is a table with the columns `row_columns`. The groups are:
    - each source of the kept rows: own, rewritten, expert, …, or the sources in a user's own rows;
    - kept: all kept rows;
    - demonstrations: all demonstrations;
    - replaced: the demonstrations that a kept text replaces;
    - sampled: the model's first unguided samples, right or wrong.

    The improvement is, for each problem whose demonstration was replaced, the mean log-prob of its kept texts
    minus that of the demonstration, averaged over these problems.
    """
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    if not rows.num_rows:
        return GapSummary(model=model, groups=())
    logprob_edges, phi_edges = _edges(columns["mean_logprob"]), _edges(columns["mean_phi"])
    groups = tuple(
        _source_gap(name, {key: values[chosen] for key, values in columns.items()}, logprob_edges, phi_edges)
        for name, chosen in _groups(columns)
        if chosen.any()
    )
    return GapSummary(model=model, groups=groups, improvement=_improvement(columns))


def _groups(columns: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    role, source = columns["role"], columns["source"]
    is_kept, is_demonstration = role == Role.KEPT.value, role == Role.DEMONSTRATION.value
    known = [one.value for one in Source]
    sources = sorted(set(source[is_kept]))
    for name in [*(one for one in known if one in sources), *(one for one in sources if one not in known)]:
        yield (f"source {name}" if name in RESERVED else name), is_kept & (source == name)
    yield "kept", is_kept
    yield "demonstrations", is_demonstration
    yield "replaced", is_demonstration & _is_replaced(columns)
    yield "sampled", role == Role.SAMPLE.value


def _is_replaced(columns: Columns) -> NDArray[np.bool_]:
    """Returns which rows' problems have a kept text that is not the expert's."""
    replaces = (columns["role"] == Role.KEPT.value) & (columns["source"] != Source.EXPERT.value)
    return np.isin(columns["row_id"], np.unique(columns["row_id"][replaces]))


def _edges(values: FloatArray) -> FloatArray:
    """Returns common bins over the central 98 %, so that one extreme row does not squeeze the others into one
    bin.
    """
    low, high = (float(edge) for edge in np.quantile(values, (0.01, 0.99)))
    return np.linspace(low, high if high > low else low + 1e-3, NUM_BINS + 1)


def _histogram(values: FloatArray, edges: FloatArray) -> Histogram:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _source_gap(name: str, columns: Columns, logprob_edges: FloatArray, phi_edges: FloatArray) -> SourceGap:
    lengths = columns["num_tokens"].astype(np.float64)

    def over_tokens(column: str) -> float:
        return float(np.average(columns[column].astype(np.float64), weights=lengths))

    mean_logprob, mean_phi = over_tokens("mean_logprob"), over_tokens("mean_phi")
    half = _half_interval(columns, mean_phi)
    return SourceGap(
        name=name,
        num_rows=len(lengths),
        num_tokens=int(lengths.sum()),
        mean_length=float(lengths.mean()),
        mean_logprob=mean_logprob,
        mean_row_logprob=float(columns["mean_logprob"].mean()),
        perplexity=math.exp(min(-mean_logprob, 700.0)),  # beyond 700 a float64 overflows
        mean_entropy=over_tokens("mean_entropy"),
        mean_phi=mean_phi,
        mean_row_phi=float(columns["mean_phi"].mean()),
        low_phi=None if half is None else mean_phi - half,
        high_phi=None if half is None else mean_phi + half,
        phi_below=tuple(over_tokens(f"phi_below_{-threshold}") for threshold in PHI_THRESHOLDS),
        weights=tuple(
            _weight_spread(
                one.kind,
                mean=over_tokens(f"mean_weight_{one.kind}"),
                mean_square=over_tokens(f"mean_squared_weight_{one.kind}"),
            )
            for one in COMPARED
        ),
        row_logprobs=_histogram(columns["mean_logprob"], logprob_edges),
        row_phis=_histogram(columns["mean_phi"], phi_edges),
        parts=_parts(columns),
    )


def _parts(columns: Columns) -> tuple[PartGap, ...]:
    """Returns the numbers of thoughts and answers.

    Returns () if no text has a thought, or if older scores do not mark thoughts.
    """
    thought = tuple(float(columns[name].sum()) for name in PART_COLUMNS)
    if not thought[0] > 0:  # also true of NaN, which represents null
        return ()
    lengths = columns["num_tokens"]
    means = (columns["mean_logprob"], columns["mean_phi"])
    whole = (float(lengths.sum()), *(float(values @ lengths) for values in means))
    answer = tuple(all_of - of_thought for all_of, of_thought in zip(whole, thought, strict=True))
    return tuple(
        PartGap(name=name, num_tokens=int(tokens), mean_logprob=logprob / tokens, mean_phi=phi / tokens)
        for name, (tokens, logprob, phi) in (("thought", thought), ("answer", answer))
        if tokens
    )


def _weight_spread(objective: str, *, mean: float, mean_square: float) -> WeightSpread:
    return WeightSpread(
        objective=objective,
        mean=mean,
        variance=max(mean_square - mean**2, 0.0),
        effective_sample_share=mean**2 / mean_square if mean_square else 0.0,  # 0: no weight is left at all
    )


def _half_interval(columns: Columns, mean_phi: float) -> float | None:
    """Returns half the 95 % interval of the mean phi, a ratio of sums over problems, by the delta method."""
    _, cluster = np.unique(columns["row_id"], return_inverse=True)
    residuals = np.bincount(cluster, (columns["mean_phi"] - mean_phi) * columns["num_tokens"])
    n = len(residuals)
    if n < 2:
        return None
    return float(1.96 * math.sqrt(n / (n - 1) * np.sum(residuals**2)) / columns["num_tokens"].sum())


def _improvement(columns: Columns) -> MeanDifference | None:
    is_replaced = _is_replaced(columns)
    before = _means_by_row(columns, is_replaced & (columns["role"] == Role.DEMONSTRATION.value))
    replacing = (columns["role"] == Role.KEPT.value) & (columns["source"] != Source.EXPERT.value)
    after = _means_by_row(columns, replacing)
    problems = sorted(before.keys() & after.keys())
    if not problems:
        return None
    return clustered_mean(np.array([after[problem] - before[problem] for problem in problems]))


def _means_by_row(columns: Columns, chosen: NDArray[np.bool_]) -> dict[str, float]:
    names, cluster = np.unique(columns["row_id"][chosen], return_inverse=True)
    sums = np.bincount(cluster, columns["mean_logprob"][chosen])
    return dict(zip(names.tolist(), (sums / np.bincount(cluster)).tolist(), strict=True))
