"""Reads an evaluation's samples from the run's store, with the newest verdicts on them.

    evaluate/<model>/<benchmark>-<fingerprint>/
      data/, commits/             samples with the verdicts they got when they were drawn
      verdicts/<n>-<version>/     the n-th repeated judging, by the verifier of that version

Samples are never changed. The current verdicts are those of the highest judging that covers every shard.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from drsft.records import Completion, Verdict
from drsft.run import layout
from drsft.run.shards import ShardSet
from drsft.storage import Store

__all__ = [
    "SAMPLE_SCHEMA",
    "VERDICT_SCHEMA",
    "Judged",
    "Judging",
    "judgings",
    "read_samples",
    "samples_to_table",
    "verdicts_to_table",
]

_KEY = [
    pa.field("problem_id", pa.string(), nullable=False),
    pa.field("sample_index", pa.int32(), nullable=False),
]
_VERDICT = [
    pa.field("outcome", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("answer", pa.string()),  # as extracted
    pa.field("answer_group", pa.int32()),  # of drsft.evaluate.answers; null: no vote
]
VERDICT_SCHEMA = pa.schema([*_KEY, *_VERDICT])
SAMPLE_SCHEMA = pa.schema(
    [
        *_KEY,
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        *_VERDICT,
    ]
)
THOUGHT_FIELD = pa.field(  # a column where the samples think
    "thought", pa.struct([("text", pa.string()), ("num_tokens", pa.int32()), ("is_closed", pa.bool_())])
)
SCORED_COLUMNS = [*VERDICT_SCHEMA.names, "num_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One sample and its verdict."""

    problem_id: str
    sample_index: int
    seed: int
    completion: Completion
    verdict: Verdict
    answer_group: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """One repeated judging of all samples of an evaluation, by one version of the verifier."""

    number: int  # from 1
    version: str  # of the verifier
    prefix: str


def samples_to_table(judged: Iterable[Judged]) -> pa.Table:
    rows = [
        {
            **_verdict_row(one),
            "seed": one.seed,
            "token_ids": one.completion.token_ids,
            "text": one.completion.text,
            "num_tokens": len(one.completion.token_ids),
            "finish_reason": one.completion.finish_reason.value,
            "thought": None if one.completion.thought is None else asdict(one.completion.thought),
        }
        for one in judged
    ]
    thinks = any(row["thought"] is not None for row in rows)
    return pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA.append(THOUGHT_FIELD) if thinks else SAMPLE_SCHEMA)


def verdicts_to_table(judged: Iterable[Judged]) -> pa.Table:
    return pa.Table.from_pylist([_verdict_row(one) for one in judged], schema=VERDICT_SCHEMA)


def _verdict_row(judged: Judged) -> dict[str, Any]:
    return {
        "problem_id": judged.problem_id,
        "sample_index": judged.sample_index,
        "outcome": judged.verdict.outcome.value,
        "reason": judged.verdict.reason,
        "answer": judged.verdict.answer,
        "answer_group": judged.answer_group,
    }


def judgings(store: Store, prefix: str) -> list[Judging]:
    """Returns every repeated judging of the samples at `prefix`, finished or not, in order of its number."""
    folder = layout.all_verdicts(prefix)
    names = {key.removeprefix(f"{folder}/").split("/", 1)[0] for key in store.keys(folder)}
    parts = [name.partition("-") for name in names]
    found = [
        Judging(number=int(number), version=version, prefix=layout.verdicts(prefix, int(number), version))
        for number, _, version in parts
    ]
    return sorted(found, key=lambda judging: judging.number)


def read_samples(store: Store, prefix: str, shards: Sequence[str]) -> pa.Table | None:
    """Returns the samples at `prefix` with the current verdicts, sorted by problem and sample.

    The table has the columns of VERDICT_SCHEMA and num_tokens. Returns None if a shard is missing.
    """
    drawn = ShardSet(store, prefix)
    if not drawn.done() >= set(shards):
        return None
    order = [("problem_id", "ascending"), ("sample_index", "ascending")]
    samples = pa.concat_tables([drawn.table(shard).select(SCORED_COLUMNS) for shard in shards]).sort_by(order)
    for judging in reversed(judgings(store, prefix)):
        anew = ShardSet(store, judging.prefix)
        if anew.done() >= set(shards):
            verdicts = pa.concat_tables([anew.table(shard) for shard in shards]).sort_by(order)
            return verdicts.append_column("num_tokens", samples["num_tokens"])
    return samples
