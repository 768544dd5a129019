"""Prepares a run's rows for the page: expert and kept text side by side, with token scores if the gap was
measured.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow.compute as pc

from drsft.config import RunConfig
from drsft.errors import ModelError
from drsft.gap.scored_texts import Role, scores_of
from drsft.gap.tokens import token_texts
from drsft.policy.prompts import model_location
from drsft.policy.turn.tokenizer_files import load_tokenizer
from drsft.records import Attempt, Record, Source
from drsft.report.data import AttemptShown, BrowsedRow, ShownText
from drsft.report.wording import dropped_because
from drsft.run.run import Run
from drsft.run.shards import ShardSet

__all__ = ["browsed_rows"]

Scores = dict[tuple[str, str], dict[str, Any]]  # (problem id, role) -> a row of the scores
Decode = Callable[[list[int]], str]


def browsed_rows(run: Run, records: Iterable[tuple[str, Record]]) -> Iterator[BrowsedRow]:
    """Yields a row of the page for each record, in order; `records` are pairs of a shard's name and a record.

    Texts have token scores if the gap was measured and the target's tokenizer is available here.
    """
    scored = scores_of(run.store)
    with_scores = scored.done()
    decode = _decoder(run.config) if with_scores else None
    for name, of_shard in groupby(records, key=itemgetter(0)):
        scores = _scores(scored, name) if name in with_scores else {}
        for _, record in of_shard:
            yield _row(record, scores, decode)


def _decoder(config: RunConfig) -> Decode | None:
    """Returns the target's decoder; None if the target is not available, as on another machine."""
    try:
        tokenizer = load_tokenizer(model_location(config.target.model))
    except ModelError:
        return None

    @cache  # most tokens repeat, and decoding them is slow
    def decoded(token_ids: tuple[int, ...]) -> str:
        return str(tokenizer.decode(list(token_ids)))

    return lambda token_ids: decoded(tuple(token_ids))


def _scores(scored: ShardSet, shard: str) -> Scores:
    """Returns the scores of the kept texts (the first of several) and of the demonstrations."""
    columns = ["row_id", "role", "completion_ids", "logprobs", "entropy"]
    wanted = (pc.field("index") == 0) & (pc.field("role") != Role.SAMPLE.value)
    rows = scored.table(shard).filter(wanted).select(columns).to_pylist()
    return {(row["row_id"], row["role"]): row for row in rows}


def _row(record: Record, scores: Scores, decode: Decode | None) -> BrowsedRow:
    problem, kept = record.problem, record.kept_attempt

    def shown(text: str, token_ids: Sequence[int], role: Role) -> ShownText:
        scored = scores.get((problem.problem_id, role.value))
        if decode is None or scored is None or scored["completion_ids"] != list(token_ids):
            return ShownText(text=text)
        return _shaded(scored, decode)

    is_kept = record.source not in (Source.EXPERT, Source.DROPPED)
    return BrowsedRow(
        problem_id=problem.problem_id,
        question=problem.question_by_role,
        reference=problem.reference,
        expert=shown(problem.demonstration, record.expert_completion_ids, Role.DEMONSTRATION),
        kept=shown(record.text, record.completion_ids, Role.KEPT) if is_kept else None,
        source=record.source,
        reason=kept.verdict.reason if kept else _reason_without_sample(record),
        attempts=tuple(map(_attempt, record.attempts)),
    )


def _reason_without_sample(record: Record) -> str:
    if record.source is Source.EXPERT:
        return "no sample was accepted, so the expert's solution is kept"
    if record.source is Source.DROPPED:
        return dropped_because(record)
    return f"carried over from round {record.round}"


def _shaded(scored: dict[str, Any], decode: Decode) -> ShownText:
    """Returns the trained text with its tokens and their scores, including the end of turn."""
    pieces = tuple(token_texts(scored["completion_ids"], decode))
    phis = np.asarray(scored["logprobs"]) + np.asarray(scored["entropy"])
    return ShownText(text="".join(pieces), pieces=pieces, phis=tuple(phis.tolist()))


def _attempt(attempt: Attempt) -> AttemptShown:
    completion = attempt.rollout.completion
    return AttemptShown(
        phase=attempt.rollout.phase,
        outcome=attempt.verdict.outcome,
        reason=f"rejected: {attempt.rejection}" if attempt.rejection else attempt.verdict.reason,
        text=completion.text,
        num_tokens=len(completion.token_ids),
        answer=attempt.verdict.answer,
    )
