"""Leaves out training rows by their log-probs and φ, and counts them; without a filter it keeps all rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from drsft.config import DataView, GapFilter
from drsft.gap.scored_texts import Role
from drsft.records import Source
from drsft.run import layout
from drsft.run.run import Run
from drsft.storage.typed import read_stored

__all__ = ["FilterCounts", "filter_records", "read_filter_counts", "refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterCounts:
    """How many texts a data view had before the filter, and how many it left out, by reason and by source."""

    data: DataView
    num_texts: int
    reasons: dict[str, int]
    sources: dict[str, int]

    @property
    def num_left_out(self) -> int:
        return sum(self.reasons.values())


def refusal(gap_filter: GapFilter, *, mean_logprob: float, mean_phi: float) -> str | None:
    """Returns the first reason to leave out a text with this mean log-prob and mean φ (nats per token); None
    to keep it.
    """
    low, least, most = gap_filter.min_logprob, gap_filter.min_phi, gap_filter.max_abs_phi
    if low is not None and mean_logprob < low:
        return f"mean log-prob below {low:g}"
    if least is not None and mean_phi < least:
        return f"mean phi below {least:g}"
    if most is not None and abs(mean_phi) > most:
        return f"mean phi further than {most:g} from zero"
    return None


def filter_records(
    records: pa.Table, scores: pa.Table, gap_filter: GapFilter, *, data: DataView
) -> tuple[pa.Table, FilterCounts]:
    """Returns the records without the `data` view's texts that `gap_filter` leaves out, and counts of the
    texts.

    `scores` has ROW_COLUMNS. A problem with several kept texts loses the filtered ones only; one whose every
    text is filtered loses its row. Raises KeyError for a text that was not scored.
    """
    scored = {(row["row_id"], row["role"], row["index"]): row for row in scores.to_pylist()}
    reasons: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    num_texts = 0
    for record in records.to_pylist():
        role, source, texts = _texts(record, data)
        kept = []
        for index, text in enumerate(texts):
            score = scored[record["problem_id"], role.value, index]
            why = refusal(gap_filter, mean_logprob=score["mean_logprob"], mean_phi=score["mean_phi"])
            if why is None:
                kept.append(text)
            else:
                reasons[why] += 1
                sources[source] += 1
        num_texts += len(texts)
        rows += _with_texts(record, data, kept) if texts else [record]
    counts = FilterCounts(data=data, num_texts=num_texts, reasons=dict(reasons), sources=dict(sources))
    return pa.Table.from_pylist(rows, schema=records.schema), counts


def read_filter_counts(run: Run) -> list[FilterCounts]:
    """Returns the counts of each data view that the run's trainings have filtered so far."""
    keys = [layout.packed_rows(run.config.train, data).filter_counts for data in run.data_views()]
    return [read_stored(run.store, key, FilterCounts) for key in keys if run.store.exists(key)]


def _texts(record: dict[str, Any], data: DataView) -> tuple[Role, str, list[Any]]:
    """Returns the texts learnt from a record: token ids, and for further solutions items of `also_kept`."""
    if data == DataView.EXPERT:
        return Role.DEMONSTRATION, Source.EXPERT.value, [record["expert_completion_ids"]]
    if record["source"] == Source.DROPPED.value:
        return Role.KEPT, record["source"], []
    return Role.KEPT, record["source"], [record["completion_ids"], *(record["also_kept"] or ())]


def _with_texts(record: dict[str, Any], data: DataView, kept: list[Any]) -> Iterator[dict[str, Any]]:
    if not kept:
        return
    if data == DataView.EXPERT:
        yield record
        return
    first, *others = kept
    ids = first["token_ids"] if isinstance(first, dict) else first
    yield {**record, "completion_ids": ids, "also_kept": others}
