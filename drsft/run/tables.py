"""Defines the stored Arrow tables of records and problems.

The schema of records has version 3; with columns of thoughts 4, of earlier turns 5, of grounding scores 6.

docs/records.md describes every column and what changed since; a test compares the two. Columns that an older
version lacks get the value that was true for that version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from drsft.errors import InputError
from drsft.records import (
    Attempt,
    Completion,
    FinishReason,
    GroundingScores,
    Message,
    Outcome,
    Phase,
    Problem,
    Record,
    Rejection,
    Rollout,
    Source,
    StepReport,
    ThoughtPart,
    Verdict,
)

__all__ = [
    "EARLIER_TURNS",
    "PROBLEM_SCHEMA",
    "RECORD_SCHEMA",
    "problems_from_table",
    "problems_of_records",
    "problems_to_table",
    "record_schema",
    "records_from_table",
    "records_to_table",
]

SCHEMA_VERSION = 3
THINKING_SCHEMA_VERSION = 4  # of the records of a model whose template marks thoughts
CONVERSATION_SCHEMA_VERSION = 5  # of the records of problems that may be conversations
GROUNDING_SCHEMA_VERSION = 6  # of the records of runs with the grounding check
_ADDED = {"expert_verdict", "also_kept", "round"}  # since the first runs; so were these fields of an attempt:
_ADDED_TO_ATTEMPTS = {"policy", "refusal", "steps", "mean_phi", "round"}

_IDS = pa.list_(pa.int32())
_LOGPROBS = pa.list_(pa.float32())

PROBLEM_SCHEMA = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("demonstration", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)

EARLIER_TURNS = pa.field(
    "earlier_turns",
    pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])),
    nullable=False,
)  # the last column, of problems that may be conversations

_VERDICT = pa.struct(
    [pa.field("outcome", pa.string()), pa.field("reason", pa.string()), pa.field("answer", pa.string())]
)

_KEPT = pa.struct(
    [
        pa.field("token_ids", _IDS),
        pa.field("text", pa.string()),
        pa.field("behaviour_logprobs", _LOGPROBS),
        pa.field("finish_reason", pa.string()),
    ]
)

_ATTEMPT = pa.struct(
    [
        pa.field("stage", pa.string()),
        pa.field("sample_index", pa.int32()),
        pa.field("seed", pa.int64()),
        pa.field("prompt_hash", pa.string()),
        pa.field("token_ids", _IDS),
        pa.field("text", pa.string()),
        pa.field("behaviour_logprobs", _LOGPROBS),
        pa.field("finish_reason", pa.string()),
        pa.field("policy", pa.string()),  # "target", or the teacher's model
        pa.field("refusal", pa.string()),
        pa.field("steps", _VERDICT),  # of right solutions with a guide, or by a teacher
        pa.field("outcome", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("mean_phi", pa.float64()),  # since version 2
        pa.field("round", pa.int32()),  # since version 3
    ]
)

RECORD_SCHEMA = pa.schema(
    [
        *PROBLEM_SCHEMA,
        pa.field("source", pa.string(), nullable=False),
        pa.field("prompt_ids", _IDS, nullable=False),  # the plain prompt
        pa.field("completion_ids", _IDS, nullable=False),  # ends with the end-of-turn token
        pa.field("text", pa.string(), nullable=False),
        pa.field("behaviour_logprobs", _LOGPROBS),  # null for expert rows
        pa.field("expert_completion_ids", _IDS, nullable=False),
        pa.field("attempts", pa.list_(_ATTEMPT), nullable=False),
        pa.field("expert_verdict", _VERDICT),  # of the demonstration's own answer
        pa.field("also_kept", pa.list_(_KEPT), nullable=False),  # where more than one solution is wanted
        pa.field("round", pa.int32(), nullable=False),  # since version 2
    ],
    metadata={"drsft.schema_version": str(SCHEMA_VERSION)},
)


_THOUGHT = pa.struct(
    [pa.field("text", pa.string()), pa.field("num_tokens", pa.int32()), pa.field("is_closed", pa.bool_())]
)
_GROUNDING = pa.struct(
    [
        pa.field("answer_logprob", pa.float64()),
        pa.field("mean_logprob", pa.float64()),
        pa.field("expert_mean_logprob", pa.float64()),
    ]
)


def record_schema(
    *, marks_thoughts: bool = False, has_conversations: bool = False, is_grounded: bool = False
) -> pa.Schema:
    """Returns RECORD_SCHEMA, with the columns of thoughts, earlier turns and grounding scores as
    requested.
    """
    attempt = [*_ATTEMPT]
    if marks_thoughts:
        attempt.append(pa.field("thought", _THOUGHT))
    if is_grounded:
        attempt.append(pa.field("grounding", _GROUNDING))
    attempts = pa.field("attempts", pa.list_(pa.struct(attempt)), nullable=False)
    schema = RECORD_SCHEMA.set(RECORD_SCHEMA.get_field_index("attempts"), attempts)
    version = SCHEMA_VERSION
    if marks_thoughts:
        also_kept = pa.field("also_kept_thoughts", pa.list_(_THOUGHT), nullable=False)
        schema, version = (
            schema.append(pa.field("thought", _THOUGHT)).append(also_kept),
            THINKING_SCHEMA_VERSION,
        )
    if has_conversations:
        schema, version = schema.append(EARLIER_TURNS), CONVERSATION_SCHEMA_VERSION
    if is_grounded:
        version = GROUNDING_SCHEMA_VERSION
    return schema.with_metadata({"drsft.schema_version": str(version)})


def problems_to_table(problems: Sequence[Problem], *, has_conversations: bool = False) -> pa.Table:
    """Returns the problems as a table.

    The table has the column `earlier_turns` if `has_conversations`, or if one of the problems has such turns.
    """
    is_wider = has_conversations or any(problem.earlier for problem in problems)
    schema = PROBLEM_SCHEMA.append(EARLIER_TURNS) if is_wider else PROBLEM_SCHEMA
    columns = {name: [getattr(problem, name) for problem in problems] for name in PROBLEM_SCHEMA.names}
    if is_wider:
        columns[EARLIER_TURNS.name] = [[asdict(turn) for turn in one.earlier] for one in problems]
    return pa.Table.from_pydict(columns, schema=schema)


def problems_from_table(table: pa.Table) -> list[Problem]:
    return [_problem(row) for row in table.to_pylist()]


def problems_of_records(records: pa.Table) -> list[Problem]:
    """Returns the problems in a table of records."""
    wanted = (*PROBLEM_SCHEMA.names, EARLIER_TURNS.name)
    return problems_from_table(records.select([name for name in wanted if name in records.schema.names]))


def records_to_table(
    records: Sequence[Record],
    provenance: Mapping[str, str] | None = None,
    *,
    marks_thoughts: bool = False,
    has_conversations: bool = False,
    is_grounded: bool = False,
) -> pa.Table:
    """Returns a table in order of problem id, so equal records give equal bytes whatever finished first.

    `provenance` is added to the file's metadata, each key as `drsft.<key>`. There are columns of thoughts if
    the model's template marks them (`marks_thoughts`) or a record has one, a column of earlier turns if
    problems may be conversations (`has_conversations`), and one of grounding if the run checks it
    (`is_grounded`).
    """
    ordered = sorted(records, key=lambda record: record.problem.problem_id)
    attempts = [attempt for record in ordered for attempt in record.attempts]
    schema = record_schema(
        marks_thoughts=marks_thoughts or any(map(_has_thought, ordered)),
        has_conversations=has_conversations or any(record.problem.earlier for record in ordered),
        is_grounded=is_grounded or any(attempt.grounding is not None for attempt in attempts),
    )
    table = pa.Table.from_pylist([_record_row(record) for record in ordered], schema=schema)
    about = {f"drsft.{key}": value for key, value in (provenance or {}).items()}
    return table.replace_schema_metadata({**schema.metadata, **about})


def records_from_table(table: pa.Table) -> list[Record]:
    """Returns the records. Raises InputError if this version cannot read the table's version."""
    _check_schema(table.schema)
    return [_record(row) for row in table.to_pylist()]


def _check_schema(schema: pa.Schema) -> None:
    version = int((schema.metadata or {}).get(b"drsft.schema_version", SCHEMA_VERSION))
    newest = GROUNDING_SCHEMA_VERSION
    if version > newest:
        raise InputError(
            f"these records have schema version {version}, but this drsft reads up to {newest}; install the "
            "version that wrote them (see drsft.version in the file's metadata)"
        )
    missing = set(RECORD_SCHEMA.names) - _ADDED - set(schema.names)
    if not missing:
        fields = schema.field("attempts").type.value_type
        known = {fields.field(i).name for i in range(fields.num_fields)}
        wanted = {_ATTEMPT.field(i).name for i in range(_ATTEMPT.num_fields)}
        missing = {f"attempts.{name}" for name in wanted - _ADDED_TO_ATTEMPTS - known}
    if missing:
        raise InputError(
            f"these records have no column {', '.join(sorted(missing))}: too old, or not records of drsft"
        )


def _problem_row(problem: Problem) -> dict[str, Any]:
    texts = {name: getattr(problem, name) for name in PROBLEM_SCHEMA.names}
    return {**texts, EARLIER_TURNS.name: [asdict(turn) for turn in problem.earlier]}


def _problem(row: Mapping[str, Any]) -> Problem:
    earlier = tuple(Message(**turn) for turn in row.get(EARLIER_TURNS.name) or ())
    return Problem(**{name: row[name] for name in PROBLEM_SCHEMA.names}, earlier=earlier)


def _record_row(record: Record) -> dict[str, Any]:
    return {
        **_problem_row(record.problem),
        "source": record.source.value,
        "prompt_ids": record.prompt_ids,
        "completion_ids": record.completion_ids,
        "text": record.text,
        "behaviour_logprobs": record.behaviour_logprobs_T,
        "expert_completion_ids": record.expert_completion_ids,
        "attempts": [_attempt_row(attempt) for attempt in record.attempts],
        "expert_verdict": _verdict_row(record.expert_verdict),
        "also_kept": [_completion_row(completion) for completion in record.further_completions],
        "round": record.round,
        "thought": _thought_row(record.thought),
        "also_kept_thoughts": [_thought_row(one.thought) for one in record.further_completions],
    }


def _has_thought(record: Record) -> bool:
    completions = [one.rollout.completion for one in record.attempts]
    thoughts = [record.thought, *(one.thought for one in (*completions, *record.further_completions))]
    return any(one is not None for one in thoughts)


def _thought_row(thought: ThoughtPart | None) -> dict[str, Any] | None:
    return None if thought is None else asdict(thought)


def _thought(row: dict[str, Any] | None) -> ThoughtPart | None:
    return None if row is None else ThoughtPart(**row)


def _verdict_row(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {"outcome": verdict.outcome.value, "reason": verdict.reason, "answer": verdict.answer}


def _completion_row(completion: Completion) -> dict[str, Any]:
    return {
        "token_ids": completion.token_ids,
        "text": completion.text,
        "behaviour_logprobs": completion.behaviour_logprobs_T,
        "finish_reason": completion.finish_reason.value,
    }


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    rollout = attempt.rollout
    verdict = _verdict_row(attempt.verdict)
    assert verdict is not None
    return {
        "stage": rollout.phase.value,
        "sample_index": rollout.sample_index,
        "seed": rollout.seed,
        "prompt_hash": rollout.prompt_hash,
        **_completion_row(rollout.completion),
        "policy": rollout.policy,
        "refusal": None if attempt.rejection is None else str(attempt.rejection),
        "steps": _verdict_row(attempt.steps),
        **verdict,
        "mean_phi": attempt.mean_phi,
        "round": rollout.round,
        "thought": _thought_row(rollout.completion.thought),
        "grounding": None if attempt.grounding is None else asdict(attempt.grounding),
    }


def _record(row: dict[str, Any]) -> Record:
    return Record(
        problem=_problem(row),
        source=Source(row["source"]),
        prompt_ids=tuple(row["prompt_ids"]),
        completion_ids=tuple(row["completion_ids"]),
        text=row["text"],
        behaviour_logprobs_T=_optional_tuple(row["behaviour_logprobs"]),
        expert_completion_ids=tuple(row["expert_completion_ids"]),
        attempts=tuple(map(_attempt, row["attempts"])),
        expert_verdict=_optional_verdict(row.get("expert_verdict")),
        further_completions=_further_completions(row),
        round=row.get("round", 1),
        thought=_thought(row.get("thought")),
    )


def _further_completions(row: dict[str, Any]) -> tuple[Completion, ...]:
    kept = row.get("also_kept") or []
    thoughts = row.get("also_kept_thoughts") or [None] * len(kept)
    return tuple(
        _completion({**one, "thought": thought}) for one, thought in zip(kept, thoughts, strict=True)
    )


def _optional_tuple(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _optional_verdict(row: dict[str, Any] | None) -> Verdict | None:
    return None if row is None else _verdict(row)


def _verdict(row: dict[str, Any]) -> Verdict:
    reason, answer = row["reason"], row["answer"]
    steps = StepReport.from_stored(reason, answer)
    return Verdict(outcome=Outcome(row["outcome"]), reason=reason, answer=answer, steps=steps)


def _completion(row: dict[str, Any]) -> Completion:
    return Completion(
        token_ids=tuple(row["token_ids"]),
        text=row["text"],
        behaviour_logprobs_T=_optional_tuple(row["behaviour_logprobs"]),
        finish_reason=FinishReason(row["finish_reason"]),
        thought=_thought(row.get("thought")),
    )


def _attempt(row: dict[str, Any]) -> Attempt:
    rollout = Rollout(
        phase=Phase(row["stage"]),
        sample_index=row["sample_index"],
        seed=row["seed"],
        prompt_hash=row["prompt_hash"],
        completion=_completion(row),
        policy=row.get("policy", "target"),
        round=row.get("round", 1),
    )
    rejection, grounding = row.get("refusal"), row.get("grounding")
    return Attempt(
        rollout=rollout,
        verdict=_verdict(row),
        rejection=None if rejection is None else Rejection.from_text(rejection),
        steps=_optional_verdict(row.get("steps")),
        mean_phi=row.get("mean_phi"),
        grounding=None if grounding is None else GroundingScores(**grounding),
    )
