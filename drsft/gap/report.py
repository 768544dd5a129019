"""Builds the gap report: groups of texts, a few rows token by token, outlying rows, and the
recommendation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from drsft.gap.recommendation import Recommendation, recommend
from drsft.gap.scored_texts import Role
from drsft.gap.summary import GapSummary, summarise
from drsft.gap.tokens import token_texts
from drsft.run.layout import GAP, GapFolder
from drsft.storage import Store

__all__ = [
    "FarRow",
    "GapReport",
    "HeatMap",
    "OutlyingRows",
    "ShownRow",
    "Token",
    "gap_report",
    "heat_map",
    "heat_maps_of",
    "heat_maps_of_shown",
    "outlying_rows",
    "read_gap_report",
    "rows_to_show",
]

ROBUST_SPREADS = 3.5  # the usual cut of the modified z-score (Iglewicz and Hoaglin, 1993)
NORMAL_MAD = 1.4826  # the spread of a normal distribution over its median absolute deviation
LEAST_FAR_PHI = -0.25  # nats: a nearer row is never called far, even if the other rows are nearly equal
NUM_FAR_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of a text, with its log-prob and entropy in nats; `text` is what it adds to the text."""

    text: str
    logprob: float
    entropy: float

    @property
    def phi(self) -> float:
        return self.logprob + self.entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A scored text that is shown token by token: the key of its scores, and why it was chosen."""

    row_id: str
    role: Role
    index: int
    source: str
    why: str  # "typical" or "farthest"; "asked for" where a reader chose it
    mean_phi: float
    mean_logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    row: ShownRow
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FarRow:
    row_id: str
    source: str
    num_tokens: int
    mean_logprob: float
    mean_phi: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlyingRows:
    """The kept rows whose mean phi is below `limit`: how many, by source, and in `worst` the ten lowest."""

    limit: float
    num_rows: int
    by_source: dict[str, int]
    worst: tuple[FarRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    summary: GapSummary
    recommendation: Recommendation | None  # None without kept rows
    far_out: OutlyingRows | None
    heat_maps: tuple[HeatMap, ...] = field(default=())

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> "GapReport":
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(GapReport)


def read_gap_report(store: Store, folder: GapFolder = GAP) -> GapReport | None:
    """Returns the stored report on the run's own texts, or on those of `folder`; None if there is none
    yet.
    """
    if not store.exists(folder.report):
        return None
    return GapReport.from_json(store.read(folder.report).decode())


def gap_report(*, model: str, rows: pa.Table, heat_maps: tuple[HeatMap, ...] = ()) -> GapReport:
    """Returns the gap report on scored texts, computed from their per-text numbers (`row_columns`).

    Heat maps need the tokens, so the caller makes them.
    """
    summary = summarise(model=model, rows=rows)
    far = outlying_rows(rows)
    return GapReport(summary=summary, recommendation=recommend(summary), far_out=far, heat_maps=heat_maps)


def outlying_rows(rows: pa.Table) -> OutlyingRows | None:
    """Returns the kept rows whose mean phi is far below the median; None if there are no kept rows.

    Far is more than 3.5 robust standard deviations, and below -0.25. The robust standard deviation is the
    median absolute deviation times 1.48.
    """
    kept = rows.filter(pc.field("role") == Role.KEPT.value)
    if not kept.num_rows:
        return None
    phis = kept["mean_phi"].to_numpy()
    median = float(np.median(phis))
    spread = NORMAL_MAD * float(np.median(np.abs(phis - median)))
    limit = min(median - ROBUST_SPREADS * spread, LEAST_FAR_PHI)
    far = kept.filter(pc.field("mean_phi") < limit).sort_by(
        [("mean_phi", "ascending"), ("row_id", "ascending")]
    )
    counts = far["source"].value_counts().to_pylist()
    names = list(FarRow.__dataclass_fields__)
    worst = far.slice(0, NUM_FAR_SHOWN).select(names).to_pylist()
    return OutlyingRows(
        limit=limit,
        num_rows=far.num_rows,
        by_source={one["values"]: one["counts"] for one in counts},
        worst=tuple(FarRow(**row) for row in worst),
    )


def rows_to_show(rows: pa.Table) -> list[ShownRow]:
    """Returns for the demonstrations, and for each source of kept texts, the rows to show token by token.

    These are the row with the mean phi nearest to the median, and the one with the lowest.
    """
    groups: Sequence[tuple[Role, str]] = sorted(
        {
            (Role(role), source)
            for role, source in zip(rows["role"].to_pylist(), rows["source"].to_pylist(), strict=True)
        }
    )
    shown = []
    for role, source in groups:
        if role is Role.SAMPLE:
            continue
        group = rows.filter((pc.field("role") == role.value) & (pc.field("source") == source))
        phis = group["mean_phi"].to_numpy()
        typical, farthest = int(np.argmin(np.abs(phis - np.median(phis)))), int(np.argmin(phis))
        chosen = {typical: "typical", farthest: "farthest"}
        shown += [_shown(group, position, why) for position, why in chosen.items()]
    return shown


def heat_maps_of_shown(
    shown: Sequence[ShownRow], scored: Sequence[Mapping[str, Any]], decode: Callable[[list[int]], str]
) -> tuple[HeatMap, ...]:
    """Returns the heat maps of `shown`, the texts that `rows_to_show` chose.

    `scored` has these rows, perhaps among others, with all of SCORE_SCHEMA.
    """
    found = {(row["row_id"], row["role"], row["index"]): row for row in scored}
    return tuple(heat_map(row, found[row.row_id, row.role.value, row.index], decode) for row in shown)


def heat_map(row: ShownRow, scored: Mapping[str, Any], decode: Callable[[list[int]], str]) -> HeatMap:
    """Returns the heat map of `row`: each token of the text with its log-prob and entropy.

    `scored` is the row's scores with all of SCORE_SCHEMA, `decode` as for `token_texts`.
    """
    columns = zip(
        token_texts(scored["completion_ids"], decode), scored["logprobs"], scored["entropy"], strict=True
    )
    return HeatMap(row=row, tokens=tuple(Token(text=t, logprob=p, entropy=h) for t, p, h in columns))


def heat_maps_of(scores: pa.Table, row_id: str, decode: Callable[[list[int]], str]) -> list[HeatMap]:
    """Returns the heat maps of a row's texts: the kept ones, the demonstration, the target's first sample.

    Returns [] if `scores` has no row with this id.
    """
    rows = scores.filter(pc.field("row_id") == row_id)
    maps = [
        heat_map(_shown(rows, position, "asked for"), scored, decode)
        for position, scored in enumerate(rows.to_pylist())
    ]
    return sorted(maps, key=lambda one: (list(Role).index(one.row.role), one.row.index))


def _shown(group: pa.Table, position: int, why: str) -> ShownRow:
    (row,) = group.slice(position, 1).to_pylist()
    return ShownRow(
        row_id=row["row_id"],
        role=Role(row["role"]),
        index=row["index"],
        source=row["source"],
        why=why,
        mean_phi=row["mean_phi"],
        mean_logprob=row["mean_logprob"],
    )
