"""Exports records as data sets for other trainers: chat messages, and preference pairs.

The formats are those of Hugging Face's chat templates and of TRL's SFTTrainer and DPOTrainer (conversational,
prompt given). docs/records.md describes the columns.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from drsft.config import Prompts
from drsft.policy.prompts import chat_messages
from drsft.policy.turn.thoughts import split_text
from drsft.policy.turn.turn import Thought
from drsft.records import Attempt, Outcome, Record, Source, ThoughtPart, stable_seed

__all__ = ["messages_schema", "messages_table", "pairs_schema", "pairs_table"]

_TURN = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
_THINKING_TURN = pa.struct([*_TURN, pa.field("reasoning_content", pa.string())])


def messages_schema(*, marks_thoughts: bool) -> pa.Schema:
    """Returns the schema of the export of messages: the columns messages, problem_id and source.

    With `marks_thoughts`, each message also has the field `reasoning_content`.
    """
    turns = pa.list_(_THINKING_TURN if marks_thoughts else _TURN)
    return pa.schema([("messages", turns), ("problem_id", pa.string()), ("source", pa.string())])


def pairs_schema(*, marks_thoughts: bool) -> pa.Schema:
    """Returns the schema of the export of pairs.

    Its columns are prompt, chosen and rejected (messages), problem_id, chosen_stage and rejected_stage. With
    `marks_thoughts`, each message also has the field `reasoning_content`.
    """
    turns = pa.list_(_THINKING_TURN if marks_thoughts else _TURN)
    texts = ("problem_id", "chosen_stage", "rejected_stage")
    sides = [(name, turns) for name in ("prompt", "chosen", "rejected")]
    return pa.schema([*sides, *((name, pa.string()) for name in texts)])


def messages_table(
    records: Sequence[Record],
    prompts: Prompts,
    *,
    marks_thoughts: bool = False,
    thought: Thought | None = None,
) -> tuple[pa.Table, Counter[str]]:
    """Returns a row with a conversation for each completion that is trained on, and their number by source.

    A record that keeps several solutions gives several rows; a DROPPED record gives none, but is counted.
    `thought` holds the target's own tags: thoughts in earlier turns are found by them and by <think>.
    """
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for record in records:
        others = [(completion.text, completion.thought) for completion in record.further_completions]
        texts = [(record.text, record.thought), *others]
        counts[record.source.value] += len(texts)
        if record.source is Source.DROPPED:
            continue
        asked = _plain_turns(record, prompts, thought if marks_thoughts else None)
        rows += [
            {
                "messages": [*asked, _assistant(text, own_thought)],
                "problem_id": record.problem.problem_id,
                "source": record.source.value,
            }
            for text, own_thought in texts
        ]
    return pa.Table.from_pylist(rows, schema=messages_schema(marks_thoughts=marks_thoughts)), counts


def pairs_table(
    records: Sequence[Record],
    prompts: Prompts,
    *,
    run_seed: int,
    marks_thoughts: bool = False,
    thought: Thought | None = None,
) -> tuple[pa.Table, Counter[str]]:
    """Returns a preference pair for each record with a kept sample and a wrong sample, and counts.

    "chosen" is the kept completion, so no text is exported as good that is not trained on; "rejected" is a
    random wrong sample. The second value counts the pairs by their two phases, and the records without a pair
    by the reason.
    """
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for record in records:
        chosen = record.kept_attempt
        rejected = _rejected(record, chosen, run_seed) if chosen else None
        if chosen is None:
            counts["without a correct sample"] += 1
        elif rejected is None:
            counts["without a wrong sample"] += 1
        else:
            counts[f"{chosen.rollout.phase} over {rejected.rollout.phase}"] += 1
            asked = _plain_turns(record, prompts, thought if marks_thoughts else None)
            rows.append(_pair(record, chosen, rejected, asked))
    return pa.Table.from_pylist(rows, schema=pairs_schema(marks_thoughts=marks_thoughts)), counts


def _rejected(record: Record, chosen: Attempt, run_seed: int) -> Attempt | None:
    """Returns a random wrong attempt, from the chosen one's phase where possible.

    If both come from one prompt, the pair does not teach the difference between two prompts.
    """
    wrong = [
        attempt
        for attempt in record.attempts
        if attempt.verdict.outcome is Outcome.WRONG
        and attempt.rollout.completion.text.strip() not in ("", chosen.rollout.completion.text.strip())
    ]
    candidates = [one for one in wrong if one.rollout.phase is chosen.rollout.phase] or wrong
    seed = stable_seed(run_seed, record.problem.problem_id, "rejected")
    return random.Random(seed).choice(candidates) if candidates else None


def _pair(record: Record, chosen: Attempt, rejected: Attempt, asked: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "prompt": asked,
        "chosen": [_assistant(chosen.rollout.completion.text, chosen.rollout.completion.thought)],
        "rejected": [_assistant(rejected.rollout.completion.text, rejected.rollout.completion.thought)],
        "problem_id": record.problem.problem_id,
        "chosen_stage": chosen.rollout.phase.value,
        "rejected_stage": rejected.rollout.phase.value,
    }


def _plain_turns(record: Record, prompts: Prompts, thought: Thought | None) -> list[dict[str, str]]:
    """Returns the turns of the plain prompt; guided prompts are never exported.

    Thoughts in the assistant's earlier turns are separate, as in the target's prompt.
    """
    turns = chat_messages(record.problem, prompts.plain, system=prompts.system)
    return [_with_thought_apart(turn, thought) if turn["role"] == "assistant" else turn for turn in turns]


def _with_thought_apart(turn: dict[str, str], thought: Thought | None) -> dict[str, str]:
    written = split_text(turn["content"], thought)
    if not written.thought:
        return {**turn, "content": written.answer}
    return {**turn, "content": written.answer, "reasoning_content": written.thought}


def _assistant(text: str, thought: ThoughtPart | None) -> dict[str, str]:
    turn = {"role": "assistant", "content": text}
    return {**turn, "reasoning_content": thought.text} if thought is not None and thought.text else turn
